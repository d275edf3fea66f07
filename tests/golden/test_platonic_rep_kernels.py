"""The values of the unmodified reference implementation, and of scipy, on real embeddings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilience.scoring import score
from tests.reference_implementations import basic
from tests.reference_implementations import kernels as reference

DATA = Path(__file__).parents[2] / "examples" / "data"
DOCS, CODE = DATA / "dev_docs.npy", DATA / "dev_code.npy"
EXPECTED: dict[str, Any] = json.loads((Path(__file__).parent / "platonic_rep.json").read_text())
PAIRS = {"layer 6 x layer 6": ("6", "6"), "layer 3 x layer 5": ("3", "5"), "layer 0 x layer 0": ("0", "0")}
#: The reference sums HSIC_u in float32: its own rounding is about 2e-5 of a score.
FLOAT32 = 5e-5
#: About 7e-5 where the entries are near 1: ours agree with float64 to 1e-9.
GAUSSIAN = 1e-4


def score_one(pair: str, **metric: object) -> float:
    layers = {"a": [PAIRS[pair][0]], "b": [PAIRS[pair][1]]}
    value = score(DOCS, CODE, metrics=metric, layers=layers, null={"method": "none"}, interval=None).scores[0].value
    assert value is not None
    return value


def rows(pair: str) -> list[np.ndarray]:
    sides = zip((DOCS, CODE), PAIRS[pair], strict=True)
    return [
        basic.unit_rows(np.load(path)[:, int(layer)].astype(np.float32)).astype(np.float32) for path, layer in sides
    ]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(("name", "debiased"), [("cka_rbf(sigma=1)", False), ("unbiased_cka_rbf(sigma=1)", True)])
def test_cka_with_the_gaussian_kernel_of_the_reference(pair: str, name: str, debiased: bool) -> None:
    found = score_one(pair, metric="cka", kernel="rbf", sigma=1.0, debiased=debiased, definition="prh")
    assert found == pytest.approx(EXPECTED["pairs"][pair][name], abs=GAUSSIAN)


@pytest.mark.parametrize("pair", PAIRS)
def test_cka_with_a_gaussian_kernel_as_wide_as_the_median_distance(pair: str) -> None:
    k, l = (reference.rbf(x, reference.median_distance(x)) for x in rows(pair))  # noqa: E741 - K and L are the literature's names
    expected = reference.alignment(k, l, debiased=True)
    assert score_one(pair, metric="cka", kernel="rbf") == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("pair", PAIRS)
def test_rv_is_the_cka_of_the_reference_and_angular_cka_its_angle(pair: str) -> None:
    expected = EXPECTED["pairs"][pair]["cka"]
    assert score_one(pair, metric="rv") == pytest.approx(expected, abs=FLOAT32)
    assert score_one(pair, metric="angular_cka") == pytest.approx(np.arccos(expected), abs=2 * FLOAT32)


@pytest.mark.parametrize("pair", PAIRS)
def test_distance_correlation_is_that_of_its_definition(pair: str) -> None:
    x, y = rows(pair)
    found = (
        score_one(pair, metric="distance_correlation"),
        score_one(pair, metric="distance_correlation", bias_corrected=False),
    )
    assert found[0] == pytest.approx(reference.corrected_distance_correlation(x, y), abs=1e-9)
    assert found[1] == pytest.approx(reference.distance_correlation(x, y), abs=1e-9)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
@pytest.mark.parametrize("distance", ["cosine", "euclidean", "correlation"])
def test_rsa_is_scipys_correlation_of_scipys_distances(method: str, distance: str) -> None:
    x, y = rows("layer 3 x layer 5")
    found = score_one("layer 3 x layer 5", metric="rsa", method=method, distance=distance)
    assert found == pytest.approx(reference.rsa(x, y, method, distance), abs=1e-6)
