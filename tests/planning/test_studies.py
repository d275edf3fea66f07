"""Cost and errors of a study, before any row is read."""

import pytest

from consilience.contract.alignments import ScoringOptions
from consilience.contract.studies import StudyOptions, StudyRequest, cell_key, order_cells
from consilience.errors import InvalidRequest, TooExpensive, TooLarge, UnknownLayer
from consilience.planning.alignments import CostLimits, SideShape, plan
from consilience.planning.studies import ModelDescription, StudyDescription, plan_study


def entry(label: str, n: int = 1024, layers: int = 3, dim: int = 256, **metadata: object) -> ModelDescription:
    return ModelDescription(label, SideShape(n, tuple((str(i), dim) for i in range(layers))), metadata)


def models(count: int, **fields: int) -> list[ModelDescription]:
    return [entry(f"m{number}", **fields) for number in range(count)]


KNN = StudyOptions.model_validate({"metrics": "mutual_knn", "layers": "all", "interval": None})


def test_a_plan_counts_every_cell_and_each_search_of_a_layer_once() -> None:
    pair = plan(KNN, models(1)[0].shape, models(1)[0].shape)
    study = plan_study(KNN, StudyDescription(models(20), None))
    assert study.cells == 190
    assert 9 * pair.flops < study.flops < 30 * pair.flops  # ten pairs' searches, not 190
    assert (study.dim_a, study.dim_b) == (None, None)
    assert study.bytes > pair.bytes


def test_a_large_study_of_many_layers_is_planned() -> None:
    assert plan_study(KNN, StudyDescription(models(100, layers=40), models(100, layers=40))).cells == 10_000


def test_too_many_cells_are_refused_with_their_number() -> None:
    with pytest.raises(TooLarge) as refused:
        plan_study(KNN, StudyDescription(models(30), None), cells_max=400)
    assert (refused.value.value, refused.value.limit) == ("435", 400)


def test_a_study_above_a_limit_is_refused_with_the_estimate() -> None:
    with pytest.raises(TooExpensive, match="floating-point operations, about"):
        plan_study(KNN, StudyDescription(models(10), None), CostLimits(flops=1e9))


def test_an_error_of_a_pair_names_the_pair() -> None:
    options = StudyOptions.model_validate({"metrics": "mutual_knn", "layers": ["2"]})
    with pytest.raises(UnknownLayer, match=r"^flat: Side b has no layer '2'"):
        plan_study(options, StudyDescription(models(1), [entry("flat", layers=1)]))


def test_labels_must_differ_on_a_side_and_may_be_shared_by_both() -> None:
    with pytest.raises(InvalidRequest, match="The label 'm0' is used by more than one of the columns"):
        plan_study(KNN, StudyDescription(models(1), [*models(1), *models(1)]))
    assert plan_study(KNN, StudyDescription(models(1), models(1))).cells == 1


def test_the_first_cells_form_a_study_of_fewer_models() -> None:
    assert list(order_cells(KNN, 3, None)) == [(0, 1), (0, 2), (1, 2)]
    assert list(order_cells(KNN, 2, 2)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    sided = StudyOptions.model_validate({"metrics": "linear_predictivity"})
    assert list(order_cells(sided, 2, None)) == [(0, 1), (1, 0)]
    rows_first = StudyOptions.model_validate({"metrics": "cka", "aggregate": "row_max_mean"})
    assert list(order_cells(rows_first, 2, None)) == [(0, 1), (1, 0)]


def test_the_key_of_a_cell_depends_on_all_that_its_scores_depend_on() -> None:
    def key(digests: tuple[str, str] = ("a", "b"), **fields: object) -> str:
        return cell_key(ScoringOptions.model_validate(fields), *digests)

    assert key() == key(metadata={"run": 1}) == key(memory_budget_bytes=10**9)
    keys = {key(), key(("b", "a")), key(seed=1), key(metrics="cka"), key(layers="all"), key(interval=None)}
    assert len(keys) == 6


def test_a_study_needs_two_models_and_one_choice_of_layers_for_a_side() -> None:
    side = {"embedding": "emb_" + "0" * 32}
    with pytest.raises(ValueError, match="a study needs at least two models in `rows`, or models in `columns`"):
        StudyRequest.model_validate({"rows": [side]})
    assert list(StudyRequest.model_validate({"rows": [side], "columns": [side]}).cells()) == [(0, 0)]
    with pytest.raises(ValueError, match="`layers` must be the same for both sides"):
        StudyRequest.model_validate({"rows": [side, side], "layers": {"a": "last", "b": "all"}})


def test_numbers_are_read_from_metadata_and_true_is_not_a_number() -> None:
    options = StudyOptions.model_validate({"metrics": "mutual_knn", "trends": [{"by": "params"}]})
    numbered = [entry("a", params=1), entry("b", params=2.5), entry("c", params=True)]
    with pytest.raises(
        InvalidRequest, match=r"1 of 3 models have no number 'params' in their metadata: c\."
    ) as refused:
        plan_study(options, StudyDescription(numbered, None))
    assert refused.value.pointer == "/trends/0/by"


def test_every_series_of_a_factor_needs_every_level() -> None:
    options = StudyOptions.model_validate({"metrics": "mutual_knn", "factors": [{"by": "words", "within": "model"}]})
    rows = [entry("a", words=1, model="x"), entry("b", words=2, model="x"), entry("c", words=1, model="y")]
    with pytest.raises(InvalidRequest, match="The series 'y' has no model at level 2 of words"):
        plan_study(options, StudyDescription(rows, models(2)))
