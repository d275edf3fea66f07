"""Upgrade reports of spaces with known differences, of real layers, and of invalid input."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from consilience.contract.upgrades import Strategy, UpgradeReport
from consilience.errors import (
    ConsilienceError,
    InvalidRequest,
    InvalidShape,
    NonFiniteValues,
    TooFewRows,
    UnknownLayer,
    UnpairedSides,
)
from consilience.numerics.regression.evaluation import draw_held_out
from consilience.upgrades.api import upgrade_report

DATA = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture(scope="module")
def docs() -> np.ndarray:
    """(512, 7, 384), the layers of one model."""
    return np.load(DATA / "dev_docs.npy")


@pytest.fixture(scope="module")
def code() -> np.ndarray:
    return np.load(DATA / "dev_code.npy")


def space(n: int = 600, dim: int = 16) -> np.ndarray:
    """Rows around a few centres, like embeddings."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(30, dim))[rng.integers(0, 30, n)] + 0.7 * rng.normal(size=(n, dim))).astype(np.float32)


def rotate(rows: np.ndarray) -> np.ndarray:
    dim = rows.shape[1]
    return (rows @ np.linalg.qr(np.random.default_rng(1).normal(size=(dim, dim)))[0]).astype(np.float32)


def noisy(rows: np.ndarray, strength: float) -> np.ndarray:
    return (rows + strength * np.random.default_rng(2).normal(size=rows.shape)).astype(np.float32)


def shuffled(rows: np.ndarray, share: float) -> np.ndarray:
    """Exchange some rows among each other, as if the new model mistook them for other items."""
    rng = np.random.default_rng(3)
    some = rng.permutation(len(rows))[: int(share * len(rows))]
    out = rows.copy()
    out[some] = rows[np.roll(some, 1)]
    return out


def strategy(found: UpgradeReport, name: str) -> Strategy:
    return next(one for one in found.strategies if one.name == name)


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def exact_search(
    queries: np.ndarray, documents: np.ndarray, k: int, query_rows: np.ndarray | None = None
) -> np.ndarray:
    """Ids of the first k results of an exact search by FAISS, without the query rows themselves."""
    index = faiss.IndexFlatIP(documents.shape[1])
    index.add(unit(documents))
    _, ids = index.search(unit(queries), k + 1)
    if query_rows is None:
        return np.asarray(ids[:, :k])
    return np.array(
        [[i for i in row if i != query][:k] for row, query in zip(ids.tolist(), query_rows.tolist(), strict=True)]
    )


def recalls(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    pairs = zip(found.tolist(), wanted.tolist(), strict=True)
    return np.array([len(set(a) & set(b)) / len(b) for a, b in pairs])


def test_the_same_space_is_kept() -> None:
    found = upgrade_report(space(), space())
    assert (found.verdict.recommendation, found.verdict.strategy, found.verdict.conclusive) == ("keep", "keep", True)
    assert found.agreement.shared.value == strategy(found, "keep").recall.value == 1
    assert found.worst_documents[0].shared == 10


def test_a_rotated_space_is_adapted() -> None:
    found = upgrade_report(space(), rotate(space()))
    assert (found.verdict.recommendation, found.verdict.strategy) == ("adapt", "adapt:procrustes")
    assert found.agreement.shared.value == pytest.approx(1, abs=1e-3)
    assert strategy(found, "keep").recall.value < 0.3
    assert strategy(found, "adapt:procrustes").recall.value == pytest.approx(1, abs=0.01)


def test_unrelated_spaces_are_re_embedded() -> None:
    found = upgrade_report(space(), np.random.default_rng(5).normal(size=(600, 16)).astype(np.float32))
    assert found.verdict.recommendation == "re_embed"
    assert found.agreement.shared.value == pytest.approx(found.agreement.chance, abs=0.01)


@pytest.mark.parametrize(
    "damaged",
    [
        [noisy(rotate(space()), strength) for strength in (0.0, 0.1, 0.3, 1.0, 3.0)],
        [shuffled(rotate(space()), share) for share in (0.0, 0.1, 0.3, 0.6, 1.0)],
        [rotate(space())[:, :dim] for dim in (16, 14, 10, 6, 2)],
    ],
    ids=["noise", "shuffled rows", "dropped dimensions"],
)
def test_more_damage_is_ranked_lower(damaged: list[np.ndarray]) -> None:
    found = [upgrade_report(space(), new, maps=["procrustes"]) for new in damaged]
    agreements = [one.agreement.shared.value for one in found]
    recalls = [strategy(one, "adapt:procrustes").recall.value for one in found]
    assert agreements == sorted(agreements, reverse=True)
    assert recalls == sorted(recalls, reverse=True)
    words = [one.verdict.recommendation for one in found]
    assert words[0] == "adapt"
    assert words[-1] == "re_embed"
    assert words == sorted(words)  # adapt comes before re-embed


def test_exchanged_rows_are_listed_as_changed_most() -> None:
    old = space()
    moved = set(np.random.default_rng(3).permutation(600)[:60].tolist())
    found = upgrade_report(old, shuffled(old, 0.1), worst=30)
    assert sum(changed.row in moved for changed in found.worst_documents) >= 28


def test_results_equal_those_of_exact_searches(docs: np.ndarray, code: np.ndarray) -> None:
    old, new, q_old, q_new = docs[:, 4], docs[:, 6], code[:, 4], code[:, 6]
    found = upgrade_report(old, new, queries=(q_old, q_new), maps=[], qrels={str(row): [row] for row in range(512)})
    wanted, today, kept = exact_search(q_new, new, 10), exact_search(q_old, old, 10), exact_search(q_new, old, 10)
    for name, ids in (("re_embed", wanted), ("old", today), ("keep", kept)):
        assert strategy(found, name).recall.value == pytest.approx(recalls(ids, wanted).mean())
        judged = strategy(found, name).relevant_recall
        assert judged is not None
        assert judged.value == (ids == np.arange(512)[:, None]).any(axis=1).mean()
    all_rows = np.arange(512)
    agreement = recalls(exact_search(old, old, 10, all_rows), exact_search(new, new, 10, all_rows))
    assert found.agreement.shared.value == pytest.approx(agreement.mean())
    first = found.worst_queries[0]
    assert [one.row for one in first.old] == today[first.row].tolist()
    assert [one.row for one in first.new] == wanted[first.row].tolist()


def test_recall_with_a_map_equals_that_of_the_map_and_an_exact_search(docs: np.ndarray) -> None:
    from consilience.maps.api import fit_map

    old, new = docs[:, 5, :48], docs[:, 6, :48]
    held = np.flatnonzero(draw_held_out(512, 0.2, 0))
    found = upgrade_report(old, new, maps=["procrustes"])
    assert found.queries.used == len(held) == 103
    translated = fit_map(new, old, map="procrustes").apply(new[held])
    expected = recalls(exact_search(translated, old, 10, held), exact_search(new[held], new, 10, held)).mean()
    assert strategy(found, "adapt:procrustes").recall.value == pytest.approx(expected, abs=1e-3)


def test_held_out_documents_do_not_change_a_map() -> None:
    old, new = space(), noisy(rotate(space()), 0.2)
    other = new.copy()
    held = draw_held_out(600, 0.2, 0)
    other[held] = np.random.default_rng(7).normal(size=other[held].shape)
    maps = ["procrustes", "ridge"]
    before, after = upgrade_report(old, new, maps=maps), upgrade_report(old, other, maps=maps)
    assert [one.fitted for one in before.strategies] == [one.fitted for one in after.strategies]
    assert before.strategies != after.strategies


def test_the_update_gain_is_that_of_the_literature(docs: np.ndarray, code: np.ndarray) -> None:
    found = upgrade_report(
        docs[:, 4],
        docs[:, 6],
        queries=(code[:, 4], code[:, 6]),
        maps=[],
        qrels={str(row): [row] for row in range(512)},
    )
    new, old, kept = (strategy(found, name).relevant_recall for name in ("re_embed", "old", "keep"))
    gain = strategy(found, "keep").gain
    assert new is not None
    assert old is not None
    assert kept is not None
    assert gain is not None
    assert gain.value == pytest.approx((kept.value - old.value) / (new.value - old.value))
    assert gain.low < gain.value < gain.high
    assert found.improvement is not None
    assert found.improvement.value == pytest.approx(new.value - old.value)
    assert "percentage points more of the relevant documents" in found.verdict.text


def test_a_new_model_that_retrieves_less_is_not_recommended(docs: np.ndarray, code: np.ndarray) -> None:
    found = upgrade_report(
        docs[:, 6],
        docs[:, 4],
        queries=(code[:, 6], code[:, 4]),
        maps=[],
        qrels={str(row): [row] for row in range(512)},
    )
    assert (found.verdict.recommendation, found.verdict.strategy) == ("keep", "old")
    assert found.verdict.text.startswith("Keep the old model and its index.")


def test_intervals_contain_the_mean_of_repeated_splits(docs: np.ndarray) -> None:
    """Over 30 splits of real layers: at 0.95 more than five would miss once in 300 times."""
    old, new = docs[:, 4, :48], docs[:, 6, :48]
    with threadpool_limits(1):  # for small matrices, more threads only wait for each other
        found = [
            upgrade_report(old, new, maps=["procrustes"], worst=0, max_queries=103, seed=seed) for seed in range(30)
        ]
    for name in ("old", "keep", "adapt:procrustes"):
        recalls = [strategy(one, name).recall for one in found]
        mean = np.mean([recall.value for recall in recalls])
        assert sum(recall.low <= mean <= recall.high for recall in recalls) >= 25
    agreements = [one.agreement.shared for one in found]
    agreement = upgrade_report(old, new, maps=[]).agreement.shared.value
    assert sum(shared.low <= agreement <= shared.high for shared in agreements) >= 25


def test_items_are_paired_and_listed_by_their_ids() -> None:
    old, ids = space(), [f"doc-{row}" for row in range(600)]
    order = np.random.default_rng(8).permutation(600)[:500]
    new_ids = [ids[row] for row in order]
    found = upgrade_report(old, rotate(old)[order], ids=(ids, new_ids), pairing="id")
    assert (found.n, found.pairing.dropped_a, found.verdict.recommendation) == (500, 100, "adapt")
    assert found.worst_documents[0].item.startswith("doc-")
    assert all(one.item.startswith("doc-") for one in found.worst_documents[0].old)


def test_judgments_refer_to_ids_and_only_judged_queries_are_used() -> None:
    old, queries = space(), space(80)
    ids, query_ids = [f"d{row}" for row in range(600)], [f"q{row}" for row in range(80)]
    qrels = {f"q{row}": [f"d{row}", f"d{row}"] for row in range(20)}
    found = upgrade_report(
        old,
        rotate(old),
        queries=(queries, rotate(queries)),
        qrels=qrels,
        ids=(ids, None),
        query_ids=(query_ids, None),
    )
    assert (found.queries.source, found.queries.used, found.queries.available) == ("queries", 20, 20)
    assert {changed.item for changed in found.worst_queries} <= set(qrels)


def test_documents_of_one_group_are_not_neighbours_of_each_other() -> None:
    old = np.repeat(space(120), 5, axis=0) + np.float32(0.01) * space(600)
    groups = [f"g{row // 5}" for row in range(600)]
    found = upgrade_report(old, rotate(old), groups=(groups, None))
    for changed in found.worst_documents:
        assert all(one.row // 5 != changed.row // 5 for one in (*changed.old, *changed.new))


def test_models_of_different_dimensions_have_no_strategy_keep() -> None:
    found = upgrade_report(space(dim=16), rotate(space(dim=16))[:, :12])
    assert [one.name for one in found.strategies] == ["re_embed", "old", "adapt:procrustes", "adapt:ridge"]


def test_no_map_is_tried_if_none_is_requested() -> None:
    found = upgrade_report(space(), rotate(space())[:, :12], maps=[])
    assert [one.name for one in found.strategies] == ["re_embed", "old"]
    assert (found.verdict.recommendation, found.verdict.best) == ("re_embed", None)


def test_documents_used_as_queries_cause_a_warning() -> None:
    assert "held-out documents serve as queries" in upgrade_report(space(), space()).warnings[0]
    assert upgrade_report(space(), space(), queries=(space(50), space(50))).warnings == ()


def test_fewer_documents_than_dimensions_cause_a_warning(docs: np.ndarray) -> None:
    found = upgrade_report(docs[:60, 5, :64], docs[:60, 6, :64])
    assert any("fewer than the 64 dimensions" in warning for warning in found.warnings)


def test_a_report_is_reproducible_and_survives_json() -> None:
    first, second = (upgrade_report(space(), noisy(rotate(space()), 0.2)) for _ in range(2))
    assert first.model_copy(update={"timings_s": {}}) == second.model_copy(update={"timings_s": {}})
    assert UpgradeReport.model_validate_json(first.model_dump_json(by_alias=True)) == first


HOLES = space()
HOLES[3, 4] = np.nan
QUERIES = (space(50), space(50))


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (UnpairedSides, "600 documents and the new model has 500", (space(), space(500), {})),
        (UnpairedSides, "50 queries and the new model has 40", (space(), space(), {"queries": (space(50), space(40))})),
        (
            InvalidShape,
            "old model's queries have 12 columns",
            (space(), space(), {"queries": (space(50, 12), space(50))}),
        ),
        (
            InvalidShape,
            "new model's queries have 12 columns",
            (space(), space(), {"queries": (space(50), space(50, 12))}),
        ),
        (NonFiniteValues, "row 3, column 4", (space(), HOLES, {})),
        (NonFiniteValues, "row 3, column 4", (space(), space(), {"queries": (space(50), HOLES[:50])})),
        (TooFewRows, "leaves 4 rows or groups to train on and 1 to test on", (space(5), space(5), {"k": 1})),
        (InvalidRequest, "at most 29 neighbours", (space(30), space(30), {"k": 30})),
        (InvalidRequest, "`qrels` need `queries`", (space(), space(), {"qrels": {"0": [1]}})),
        (
            InvalidRequest,
            "'700', but no row of the documents has this id; there are 600 rows, numbered from 0, and no ids",
            (space(), space(), {"queries": QUERIES, "qrels": {"0": [700]}}),
        ),
        (
            InvalidRequest,
            "'q9', but no row of the queries has this id; there are 50 rows, numbered from 0, and no ids",
            (space(), space(), {"queries": QUERIES, "qrels": {"q9": [1]}}),
        ),
        (
            TooFewRows,
            "At least 2 queries are needed; got 1 with a relevant document",
            (space(), space(), {"queries": QUERIES, "qrels": {"0": [1]}}),
        ),
        (InvalidRequest, "needs ids on both sides", (space(), space(), {"pairing": "id"})),
        (InvalidRequest, "anchors", (space(), space(), {"maps": [{"kind": "relative", "anchors": 5000}]})),
        (UnknownLayer, "Side new has no layer '9'", (space(), space(), {"layers": {"new": "9"}})),
    ],
)
def test_invalid_input_is_refused_with_its_location(
    error: type[ConsilienceError], words: str, arguments: tuple[np.ndarray, np.ndarray, dict[str, object]]
) -> None:
    old, new, fields = arguments
    with pytest.raises(error, match=words.replace("(", r"\(")):
        upgrade_report(old, new, **fields)
