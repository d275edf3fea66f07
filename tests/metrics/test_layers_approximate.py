"""Scores of approximate graphs: labelled as such by the record, the estimator and the cache."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilience.contract.alignments import ScoringOptions
from consilience.contract.scores import Score
from consilience.contract.search import Approximate
from consilience.errors import InvalidRequest
from consilience.execution.alignment import CachedGraphs
from consilience.metrics.layers import find_search
from consilience.numerics.knn.approximate import build_approximate
from consilience.numerics.rows.prepared import ArrayRows
from consilience.scoring import ignore_progress, open_source, score, score_sources
from consilience.stores.graph_cache import DiskCache
from tests.laws.variants_neighbours import VARIANTS
from tests.reference_implementations import basic
from tests.reference_implementations.neighbours import views

DATA = Path(__file__).parents[2] / "examples" / "data"
DOCS, CODE = DATA / "stdlib2048_docs.npy", DATA / "stdlib2048_code.npy"
ROUGH = {"index": "IVF64,Flat", "effort": 2}


@pytest.fixture(scope="module")
def rough() -> Score:
    return score(DOCS, CODE, metrics="mutual_knn", builder=ROUGH).scores[0]


def test_an_approximate_score_is_labelled_with_recall_and_its_effect(rough: Score) -> None:
    assert rough.estimator == "approximate"
    made = rough.neighbours
    assert made is not None
    assert (made.builder, made.recall_queries) == ("IVF64,Flat", 1000)
    assert 0.4 < made.recall < 0.9
    numbers = re.fullmatch(
        r".*they contain ([\d.]+)%.* in a and ([\d.]+)% in b.*factor of ([\d.]+) if.*", rough.warnings[0]
    )
    assert numbers is not None
    of_a, of_b, factor = map(float, numbers.groups())
    assert min(of_a, of_b) / 100 == pytest.approx(made.recall, abs=1e-4)
    assert of_a * of_b / 1e4 == pytest.approx(factor, abs=1e-3)


def test_an_approximate_score_is_low_by_less_than_random_misses_explain(rough: Score) -> None:
    exact = score(DOCS, CODE, metrics="mutual_knn").scores[0].value
    assert exact is not None
    assert rough.value is not None
    numbers = re.search(r"factor of ([\d.]+)", rough.warnings[0])
    assert numbers is not None
    assert float(numbers[1]) * exact < rough.value < exact


def test_an_approximate_score_has_no_interval_and_a_reason(rough: Score) -> None:
    assert rough.interval is None
    assert "approximate graphs" in rough.warnings[-1]


def test_a_warning_recommends_an_exact_graph_for_few_rows(rough: Score) -> None:
    assert any("With 2048 rows, an exact graph" in warning for warning in rough.warnings)


def test_the_null_is_the_closed_form_of_the_approximate_graphs(rough: Score) -> None:
    drawn = score(
        DOCS, CODE, metrics="mutual_knn", builder=ROUGH, null={"method": "permutation", "permutations": 200}
    ).scores[0]
    assert rough.null.sd == pytest.approx(drawn.null.sd, rel=0.2)
    assert rough.null.mean == pytest.approx(drawn.null.mean, rel=0.05)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_metric_of_an_index_with_full_recall_has_the_exact_value(name: str) -> None:
    metric = {"metric": name, **VARIANTS[name][-1]}
    a, b = views(300)
    found, exact = [
        score(a, b, metrics=[metric], interval=None, builder=builder).scores[0]
        for builder in ({"index": "IVF4,Flat", "effort": 4}, "faiss")
    ]
    assert found.value == pytest.approx(exact.value, rel=1e-6)
    assert (found.estimator, exact.estimator) == ("approximate", "exact")
    assert found.neighbours is not None
    assert found.neighbours.recall == 1.0


def test_metrics_without_neighbours_stay_exact() -> None:
    found = score(DOCS, CODE, metrics=["cka"], builder=ROUGH, interval=None).scores[0]
    assert (found.estimator, found.warnings) == ("exact", ())


def test_the_recall_is_that_of_the_requested_k_in_the_worst_layer() -> None:
    layers = np.load(DATA / "dev_docs.npy"), np.load(DATA / "dev_code.npy")
    whole = score(
        *layers,
        metrics={"metric": "mutual_knn", "k": [1, 20]},
        layers="all",
        builder={"index": "IVF32,Flat", "effort": 1},
    )
    near, far = [entry.neighbours.recall for entry in whole.scores if entry.neighbours]
    assert near > far
    alone = score(*layers, metrics={"metric": "mutual_knn", "k": 20}, builder={"index": "IVF32,Flat", "effort": 1})
    assert alone.scores[0].neighbours is not None
    assert far <= alone.scores[0].neighbours.recall


def test_the_library_refuses_an_index_that_does_not_suit_the_rows() -> None:
    a, b = views(100)
    with pytest.raises(InvalidRequest, match="is not possible for these rows"):
        score(a, b, metrics="mutual_knn", builder={"index": "IVF101,Flat"})


def test_an_index_that_does_not_suit_the_matched_rows_is_refused() -> None:
    a, b = views(100)
    ids = tuple(map(str, range(100))), tuple(map(str, range(40, 140)))
    with pytest.raises(InvalidRequest, match="80 inverted lists need at least as many rows"):
        score(a, b, metrics="mutual_knn", builder={"index": "IVF80,Flat"}, pairing="id", ids=ids)


def test_rows_of_one_group_are_not_neighbours() -> None:
    a = np.repeat(basic.unit_rows(np.random.default_rng(0).normal(size=(60, 8))), 3, axis=0).astype(np.float32)
    groups = tuple(str(i // 3) for i in range(180))
    builder = {"index": "IVF6,Flat", "effort": 6}
    found, exact = [
        score(a, a[::-1].copy(), metrics="mutual_knn", groups=(groups, groups[::-1]), builder=b)
        for b in (builder, "faiss")
    ]
    assert found.scores[0].value == exact.scores[0].value


@pytest.mark.parametrize(
    "other",
    [
        "auto",
        "faiss",
        "symmetric",
        {"index": "IVF64,Flat", "effort": 3},
        {"index": "IVF65,Flat", "effort": 2},
        {**ROUGH, "recall_queries": 1500},
    ],
    ids=str,
)
def test_the_cache_never_returns_a_graph_of_another_search(other: Any, tmp_path: Path) -> None:
    cache = CachedGraphs(DiskCache(tmp_path, 10**9), ignore_progress)
    sides = [open_source(DOCS, "a"), open_source(CODE, "b")]

    def score_pair(builder: Any, **fields: Any) -> Score:
        options = ScoringOptions.model_validate({"metrics": "mutual_knn", "builder": builder, **fields})
        return score_sources(options, *sides, cache, ignore_progress).scores[0]

    def state(found: Score) -> str:
        assert found.neighbours is not None
        return found.neighbours.cache

    first, second, again, different = score_pair(ROUGH), score_pair(other), score_pair(ROUGH), score_pair(ROUGH, seed=1)
    assert [state(found) for found in (first, second, again, different)] == ["miss", "miss", "hit", "miss"]
    assert again.neighbours is not None
    assert first.neighbours is not None
    assert (again.value, again.neighbours.recall) == (first.value, first.neighbours.recall)
    assert again.estimator == "approximate"
    assert second.estimator == ("exact" if isinstance(other, str) else "approximate")
    assert state(score_pair(other)) == "hit"


def test_a_value_does_not_depend_on_longer_lists_in_the_cache(tmp_path: Path) -> None:
    cache = CachedGraphs(DiskCache(tmp_path, 10**9), ignore_progress)
    sides = [open_source(DOCS, "a"), open_source(CODE, "b")]

    def score_pair(k: int) -> float | None:
        options = ScoringOptions.model_validate({"metrics": {"metric": "mutual_knn", "k": k}, "builder": ROUGH})
        return score_sources(options, *sides, cache, ignore_progress).scores[0].value

    long, short = score_pair(40), score_pair(5)
    assert long != short
    assert short == score(DOCS, CODE, metrics={"metric": "mutual_knn", "k": 5}, builder=ROUGH).scores[0].value


def index_strings() -> st.SearchStrategy[str]:
    """Every form that the contract allows, in sizes that may suit a few hundred rows."""
    code = st.sampled_from(
        ["SQ4", "SQ6", "SQ8", "SQfp16", "SQbf16", "PQ3", "PQ4x4", "PQ5x6", "PQ12x8", "PQ6x10", "PQ2x12"]
    )
    full = st.just("Flat") | code
    turn = st.sampled_from([*[""] * 6, "PCA8,", "PCAR12,", "PCA13,", "RR6,", "RR24,", "RR999,", "OPQ4_8,", "OPQ5,"])
    lists = st.builds("IVF{}{},{}".format, st.sampled_from([1, 7, 64, 300, 301]), st.sampled_from(["", "_HNSW2"]), full)
    links = st.builds("HNSW{}{}".format, st.sampled_from([2, 3, 16, 999]), st.just("") | full.map(",{}".format))
    return st.builds("{}{}".format, turn, lists | links | code)


@settings(deadline=None, max_examples=40)
@given(index_strings(), st.sampled_from([None, 1, 17, 65536]), st.integers(1, 40))
def test_every_valid_index_is_refused_early_or_gives_full_lists(index: str, effort: int | None, k: int) -> None:
    x = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
    try:
        search = find_search(Approximate(index=index, effort=effort), *x.shape, k, seed=0)
    except InvalidRequest:
        return
    graph = build_approximate(ArrayRows(x), k, search)
    assert (graph.ids >= 0).all()
    assert (graph.ids != np.arange(300)[:, None]).all()
    assert graph.recall is not None
    assert 0 < graph.recall[-1] <= 1
