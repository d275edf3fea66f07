"""Layers that do not fit in memory are read in blocks, with the same scores as in memory."""

from typing import Any

import numpy as np
import pytest

from consilience.contract.alignments import ScoringOptions
from consilience.contract.metrics import METRICS
from consilience.contract.scores import Score
from consilience.contract.search import BuilderChoice
from consilience.metrics.comparison import Comparison
from consilience.metrics.graph_sources import FreshGraphs
from consilience.metrics.registry import measure
from consilience.metrics.results import result
from consilience.metrics.sides import PreparedSide
from consilience.numerics.rows import parallel
from consilience.numerics.rows.arrays import Float32Array
from consilience.numerics.rows.sources import ArrayLayer
from consilience.scoring import ignore_progress

N = 900
NULL = {"permutations": 20}
CASES: list[dict[str, Any]] = [
    {"metric": "mutual_knn"},
    {"metric": "jaccard_knn", "k": 25},
    {"metric": "rank_similarity"},
    {"metric": "lcs_knn"},
    {"metric": "edit_distance_knn"},
    {"metric": "cycle_knn"},
    {"metric": "cka"},
    {"metric": "cka", "debiased": False},
    {"metric": "cka", "definition": "prh"},
    {"metric": "rv"},
    {"metric": "angular_cka"},
    {"metric": "cca_mean"},
    {"metric": "cca_r2"},
    {"metric": "svcca"},
    {"metric": "svcca", "components": None, "variance": 0.9, "scaling": "zscore"},
    {"metric": "pwcca"},
    {"metric": "eigenspace_overlap"},
    {"metric": "procrustes"},
    {"metric": "angular_shape"},
    {"metric": "angular_shape", "alpha": 0.0},
    {"metric": "bures"},
    {"metric": "gulp"},
    {"metric": "rsa", "pairs": 20_000},
    {"metric": "rsa", "pairs": 20_000, "method": "pearson", "distance": "euclidean"},
    {"metric": "linear_predictivity"},
    {"metric": "linear_predictivity", "direction": "ba", "ridge": 0.1, "folds": 3},
]


def refuse_arrays(side: PreparedSide) -> None:
    """Let every attempt to load a whole layer of a side fail."""

    def array(index: int) -> Float32Array:
        raise AssertionError(f"Layer {index} is loaded as a whole.")

    side.rows.array = array  # type: ignore[method-assign]  # on purpose


def layers(seed: int, dims: tuple[int, ...]) -> list[ArrayLayer]:
    shared = np.random.default_rng(5).normal(size=(N, 6))
    rng = np.random.default_rng(seed)
    arrays = [shared @ rng.normal(size=(6, d)) + rng.normal(size=(N, d)) + 0.5 for d in dims]
    return [ArrayLayer(str(i), array.astype(np.float16)) for i, array in enumerate(arrays)]


def find(rows_bytes: int, metric: dict[str, Any], dims: tuple[int, ...], **fields: Any) -> Score:
    chosen = METRICS[metric["metric"]].model_validate(metric)
    sides = [
        PreparedSide(
            found, [0.9] * len(found), centre=False, normalise=True, source=FreshGraphs(), rows_bytes=rows_bytes
        )
        for found in (layers(1, dims), layers(2, dims[::-1]))
    ]
    if rows_bytes == 0:
        for side in sides:
            refuse_arrays(side)
    comparison = Comparison(sides[0], sides[1], 130, 0, ignore_progress)
    return result(
        chosen, measure(chosen, comparison), comparison, ScoringOptions(metrics=(chosen,), null=NULL, **fields)
    )


def assert_same(found: Score, expected: Score) -> None:
    np.testing.assert_allclose(np.array(found.grid, float), np.array(expected.grid, float), rtol=1e-12, atol=1e-12)
    assert found.null.threshold == pytest.approx(expected.null.threshold, abs=1e-12)
    assert found.null.p_value == pytest.approx(expected.null.p_value, abs=1e-12)
    assert (found.interval is None) == (expected.interval is None)
    if found.interval is not None and expected.interval is not None:
        assert found.interval.low == pytest.approx(expected.interval.low, abs=1e-12)
        assert found.interval.high == pytest.approx(expected.interval.high, abs=1e-12)


@pytest.mark.parametrize("dims", [(24,), (24, 17)])
@pytest.mark.parametrize("metric", CASES, ids=str)
def test_a_streamed_layer_scores_like_one_in_memory(
    monkeypatch: pytest.MonkeyPatch, metric: dict[str, Any], dims: tuple[int, ...]
) -> None:
    monkeypatch.setattr(parallel, "BLOCK_ROWS", 128)
    assert_same(find(0, metric, dims), find(10**9, metric, dims))


@pytest.mark.parametrize("builder", ["symmetric", "verified_bf16"])
def test_a_graph_of_streamed_tiles_equals_that_of_rows_in_memory(builder: BuilderChoice) -> None:
    sides = [
        PreparedSide(
            layers(1, (24,)),
            [0.9],
            centre=True,
            normalise=True,
            source=FreshGraphs(),
            rows_bytes=size,
            builder=builder,
        )
        for size in (0, 10**9)
    ]
    refuse_arrays(sides[0])
    found, expected = (side.graphs.find(0, 12)[0] for side in sides)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.similarities, expected.similarities)
    assert (found.builder, found.verified) == (expected.builder, expected.verified)
    assert found.builder == builder
