"""The neighbour metrics' values of the unmodified reference implementation on real embeddings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilience.contract.scores import ScoreDocument
from consilience.scoring import score

DATA = Path(__file__).parents[2] / "examples" / "data"
EXPECTED: dict[str, Any] = json.loads((Path(__file__).parent / "platonic_rep.json").read_text())
PAIRS = {"layer 6 x layer 6": ("6", "6"), "layer 3 x layer 5": ("3", "5"), "layer 0 x layer 0": ("0", "0")}
SIZES = (5, 10, 50)
#: The reference's names, each with what asks for the same number here.
METRICS: dict[str, dict[str, object]] = {
    "mutual_knn": {},
    "cycle_knn": {},
    "lcs_knn": {"raw": True},
    "edit_distance_knn": {},
    "cknna": {},
}


@pytest.fixture(scope="module")
def documents() -> dict[str, ScoreDocument]:
    """One document a layer pair: every metric swept over k."""
    metrics = [{"metric": name, "k": SIZES, **options} for name, options in METRICS.items()]
    sides = [np.load(DATA / name) for name in ("dev_docs.npy", "dev_code.npy")]
    return {
        pair: score(*sides, metrics=metrics, layers={"a": [a], "b": [b]}, null={"method": "none"}, interval=None)
        for pair, (a, b) in PAIRS.items()
    }


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("name", METRICS)
def test_neighbour_metrics_of_a_layer_pair(documents: dict[str, ScoreDocument], pair: str, k: int, name: str) -> None:
    (found,) = (s for s in documents[pair].scores if s.metric == name and s.options["k"] == k)
    tolerance = {
        "mutual_knn": 2 / (512 * k),
        "cycle_knn": 2 / 512,
        "lcs_knn": 2 / 512,
        "edit_distance_knn": 2 / (512 * k),
    }
    assert found.value == pytest.approx(EXPECTED["pairs"][pair][f"{name}@{k}"], abs=tolerance.get(name, 1e-6))
