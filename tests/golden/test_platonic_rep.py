"""The values of the unmodified reference implementation on real embeddings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilience.contract.scores import ScoreDocument
from consilience.scoring import score

DATA = Path(__file__).parents[2] / "examples" / "data"
DOCS, CODE = DATA / "dev_docs.npy", DATA / "dev_code.npy"
EXPECTED: dict[str, Any] = json.loads((Path(__file__).parent / "platonic_rep.json").read_text())
PAIRS = {"layer 6 x layer 6": ("6", "6"), "layer 3 x layer 5": ("3", "5"), "layer 0 x layer 0": ("0", "0")}
PRH_DEBIASED = {"metric": "cka", "definition": "prh"}
PRH_BIASED = {"metric": "cka", "definition": "prh", "debiased": False}
TIE = 1 / (512 * 10)
#: The reference sums HSIC_u in float32: its own rounding is about 2e-5 of a score.
FLOAT32 = 5e-5


@pytest.fixture(scope="module")
def prh_grid() -> ScoreDocument:
    metrics = ["mutual_knn", PRH_BIASED, PRH_DEBIASED, "cknna"]
    return score(DOCS, CODE, metrics=metrics, layers="all", preparation="prh", null={"method": "none"}, interval=None)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("k", [5, 10, 50])
def test_mutual_knn_of_a_layer_pair(pair: str, k: int) -> None:
    layers = {"a": [PAIRS[pair][0]], "b": [PAIRS[pair][1]]}
    document = score(DOCS, CODE, metrics={"metric": "mutual_knn", "k": k}, layers=layers)
    assert document.scores[0].value == pytest.approx(EXPECTED["pairs"][pair][f"mutual_knn@{k}"], abs=2 / (512 * k))


@pytest.mark.parametrize("pair", PAIRS)
def test_cka_of_a_layer_pair(pair: str) -> None:
    layers = {"a": [PAIRS[pair][0]], "b": [PAIRS[pair][1]]}
    document = score(DOCS, CODE, metrics=[PRH_BIASED, PRH_DEBIASED], layers=layers)
    assert document.scores[0].value == pytest.approx(EXPECTED["pairs"][pair]["cka"], abs=FLOAT32)
    assert document.scores[1].value == pytest.approx(EXPECTED["pairs"][pair]["unbiased_cka"], abs=FLOAT32)


def test_debiased_cka_without_the_epsilon_of_the_reference() -> None:
    document = score(DOCS, CODE, metrics="cka")
    assert document.scores[0].value == pytest.approx(0.383603, abs=1e-6)


def test_the_clamp_thresholds_of_the_prh_profile(prh_grid: ScoreDocument) -> None:
    assert prh_grid.preparation.clamp_a == pytest.approx(EXPECTED["clamp"]["docs"], abs=1e-5)
    assert prh_grid.preparation.clamp_b == pytest.approx(EXPECTED["clamp"]["code"], abs=1e-5)


@pytest.mark.parametrize(
    ("index", "name", "tolerance"),
    [(0, "mutual_knn", 2 * TIE), (1, "cka", FLOAT32), (2, "unbiased_cka", FLOAT32), (3, "cknna", FLOAT32)],
)
def test_the_grid_of_the_prh_pipeline(prh_grid: ScoreDocument, index: int, name: str, tolerance: float) -> None:
    found, expected = prh_grid.scores[index], EXPECTED["prh_pipeline"][name]
    np.testing.assert_allclose(np.array(found.grid, dtype=float), expected["grid"], atol=tolerance)
    assert found.value == pytest.approx(expected["max"], abs=tolerance)
    assert [found.layer_a, found.layer_b] == [str(layer) for layer in expected["argmax"]]
