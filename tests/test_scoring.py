import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from consilience.contract.jobs import ScoringOptions
from consilience.contract.scores import Score, ScoreDocument
from consilience.errors import InvalidRequest, TooFewRows, UnknownLayer, UnpairedSides
from consilience.scoring import score
from tests import twins

DATA = Path(__file__).parents[1] / "examples" / "data"


def views(n: int = 120, layers: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    latent = rng.normal(size=(n, 1, 6))
    a, b = (latent + rng.normal(size=(n, layers, 6)) * np.linspace(2, 0.5, layers)[:, None] for _ in range(2))
    return a.astype(np.float32), b.astype(np.float32)


def only(document: ScoreDocument) -> Score:
    (found,) = document.scores
    return found


def test_the_last_layers_are_compared_by_default() -> None:
    a, b = views()
    found = score(a, b)
    assert [entry.metric for entry in found.scores] == ["mutual_knn", "cka"]
    assert [(entry.layer_a, entry.layer_b) for entry in found.scores] == [("2", "2")] * 2
    expected = twins.mutual_knn(twins.unit_rows(a[:, 2]), twins.unit_rows(b[:, 2]), 10)
    assert found.scores[0].value == pytest.approx(expected, abs=1e-12)


def test_a_grid_is_indexed_by_a_then_b_and_its_best_cell_is_reported() -> None:
    a, b = views()
    found = only(score(a, b[:, :2], metrics="mutual_knn", layers="all"))
    assert (len(found.grid), len(found.grid[0])) == (3, 2)
    expected = [
        [twins.mutual_knn(twins.unit_rows(x), twins.unit_rows(y), 10) for y in (b[:, 0], b[:, 1])]
        for x in a.swapaxes(0, 1)
    ]
    np.testing.assert_allclose(np.array(found.grid, dtype=float), expected, atol=1e-12)
    i, j = np.unravel_index(np.argmax(expected), (3, 2))
    assert (found.layer_a, found.layer_b, found.value) == (str(i), str(j), pytest.approx(np.max(expected)))


def test_an_all_negative_grid_still_has_a_best_cell() -> None:
    """The reference starts its search at 0 and would report 0 and no layers."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        found = only(score(rng.normal(size=(30, 40)), rng.normal(size=(30, 40)), metrics="cka", layers="all"))
        if found.value is not None and found.value < 0:
            assert (found.layer_a, found.layer_b) == ("0", "0")
            return
    pytest.fail("no negative score among 50 independent pairs")


def test_layers_can_be_named_and_keep_the_order_asked_for() -> None:
    a, b = views()
    document = score({"early": a[:, 0], "late": a[:, 2]}, b, layers={"a": ["late", "early"], "b": ["1"]})
    assert document.a.layers == ("late", "early")
    assert document.b.layers == ("1",)


def test_several_k_give_one_entry_each_from_one_graph() -> None:
    a, b = views()
    document = score(a, b, metrics={"metric": "mutual_knn", "k": [3, 10, 20]})
    assert [entry.options for entry in document.scores] == [{"k": 3}, {"k": 10}, {"k": 20}]
    for entry, k in zip(document.scores, (3, 10, 20), strict=True):
        assert entry.value == pytest.approx(twins.mutual_knn(twins.unit_rows(a[:, 2]), twins.unit_rows(b[:, 2]), k))


def test_one_cell_has_an_analytic_null_and_a_grid_a_bonferroni_bound() -> None:
    a, b = views()
    one, grid = only(score(a, b, metrics="mutual_knn")), only(score(a, b, metrics="mutual_knn", layers="all"))
    assert (one.null.method, one.null.cells, one.null.mean) == ("analytic", 1, pytest.approx(10 / 119))
    assert (grid.null.method, grid.null.cells, grid.null.p_is_bound) == ("bonferroni", 9, True)
    assert grid.null.threshold > one.null.threshold  # type: ignore[operator]  # both have one


def test_the_calibrated_score_is_the_way_from_the_threshold_to_1() -> None:
    found = only(score(*views(), metrics="mutual_knn"))
    assert found.value is not None
    assert found.null.threshold is not None
    assert found.calibrated == pytest.approx((found.value - found.null.threshold) / (1 - found.null.threshold))


def test_independent_spaces_have_a_calibrated_score_of_0_and_a_large_p() -> None:
    rng = np.random.default_rng(4)
    document = score(rng.normal(size=(200, 10)), rng.normal(size=(200, 10)))
    for found in document.scores:
        assert found.calibrated == 0.0
        assert found.null.p_value > 0.05  # type: ignore[operator]  # it has one


@pytest.mark.parametrize("metric", ["mutual_knn", "cka"])
def test_a_permutation_null_over_a_grid_is_that_of_the_maximum(metric: str) -> None:
    a, b = views(60)
    found = only(score(a, b, metrics=metric, layers="all", null={"method": "permutation", "draws": 40}, seed=5))
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(40):
        order = rng.permutation(60)
        permuted = only(score(a, b[order], metrics=metric, layers="all", null={"method": "none"}, interval=None))
        draws.append(permuted.value)
    assert found.null.mean == pytest.approx(np.mean(draws), abs=1e-9)
    assert found.null.p_value == pytest.approx((1 + np.sum(np.array(draws) >= found.value)) / 41)
    assert (found.null.method, found.null.draws, found.null.cells) == ("permutation", 40, 9)


def test_no_null_means_no_chance_figures_and_no_calibration() -> None:
    found = only(score(*views(), metrics="cka", null={"method": "none"}))
    assert (found.null.method, found.null.p_value, found.calibrated) == ("none", None, None)


def test_the_same_seed_gives_the_same_document_but_for_its_timings() -> None:
    a, b = views()
    first, again = (score(a, b, seed=3, null={"method": "permutation", "draws": 30}) for _ in range(2))
    assert first.model_copy(update={"timings_s": {}}) == again.model_copy(update={"timings_s": {}})


def test_a_file_scores_like_its_array() -> None:
    paths = (DATA / "dev_docs.npy", DATA / "dev_code.npy")
    from_files, from_arrays = score(*paths), score(*(np.load(path) for path in paths))
    assert from_files.scores == from_arrays.scores
    assert (from_files.a.name, from_arrays.a.name) == ("dev_docs", "a")


def test_constant_rows_are_an_undefined_score_with_a_reason_and_no_nan() -> None:
    document = score(np.ones((20, 3), np.float32), views(20)[1])
    assert [entry.status for entry in document.scores] == ["undefined"] * 2
    assert [entry.reason.code for entry in document.scores if entry.reason] == ["constant-rows"] * 2
    assert [entry.value for entry in document.scores] == [None] * 2
    assert "NaN" not in document.model_dump_json()


def test_zero_rows_cannot_be_scaled_and_leave_only_their_own_cells_undefined() -> None:
    a, b = views(40)
    a[3, 1] = 0
    found = only(score(a, b, metrics="mutual_knn", layers="all"))
    assert found.status == "defined"
    assert found.grid[1] == (None, None, None)
    assert None not in found.grid[0] + found.grid[2]
    assert found.null.cells == 6


def test_a_zero_row_is_fine_where_rows_are_not_scaled() -> None:
    a, b = views(40)
    a[3] = 0
    assert only(score(a, b, metrics="mutual_knn", preparation="none")).status == "defined"


def test_debiased_cka_of_a_negative_self_similarity_is_undefined() -> None:
    rows = np.eye(6, dtype=np.float32)
    found = only(score(rows, views(6)[1], metrics="cka"))
    assert found.reason is not None
    assert found.reason.code == "non-positive-self-similarity"


def test_four_rows_are_enough_for_a_value_and_say_why_there_is_no_interval() -> None:
    a, b = views(4)
    document = score(a, b, metrics=[{"metric": "mutual_knn", "k": [1, 2]}, "cka"])
    assert [entry.interval for entry in document.scores] == [None, None, None]
    assert all("No interval" in entry.warnings[0] for entry in document.scores if entry.status == "defined")


def test_repeated_rows_are_counted_and_warned_of() -> None:
    a, b = views(50)
    a[10:13] = a[4]
    document = score(a, b)
    assert (document.pairing.duplicates_a, document.pairing.duplicates_b) == (3, 0)
    assert document.warnings[0].startswith("3 of 50 rows of a equal an earlier row")


def test_progress_is_reported_by_stage() -> None:
    seen: list[tuple[str, int, int]] = []
    score(*views(), layers="all", report=lambda *step: seen.append(step))
    assert {stage for stage, _, _ in seen} == {"preparation", "neighbours", "cka"}
    assert all(0 <= done <= total for _, done, total in seen)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"metrics": {"metric": "mutual_knn", "k": 120}}, InvalidRequest),
        ({"layers": {"a": ["7"], "b": "last"}}, UnknownLayer),
    ],
)
def test_what_the_sides_cannot_answer_is_refused(fields: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        score(*views(), **fields)


def test_sides_of_different_length_are_refused_with_both_lengths() -> None:
    with pytest.raises(UnpairedSides, match="a has 50 rows and b has 49"):
        score(views(50)[0], views(49)[1])


def test_three_rows_are_too_few() -> None:
    with pytest.raises(TooFewRows):
        score(np.ones((3, 2)), np.ones((3, 2)))


def test_unknown_options_are_refused_by_the_contract() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        score(*views(), metrics={"metric": "cka", "sharpness": 3})


def test_options_can_be_given_as_one_value() -> None:
    a, b = views()
    options = ScoringOptions.model_validate({"metrics": "cka"})
    assert score(a, b, options).scores == score(a, b, metrics="cka").scores


def test_the_document_survives_json() -> None:
    document = score(*views(), layers="all")
    text = document.model_dump_json(by_alias=True)
    assert json.loads(text)["schema"] == "consilience.score/1"
    assert ScoreDocument.model_validate_json(text) == document
