import json
from pathlib import Path

import numpy as np
import pytest

from consilience import scoring
from consilience.contract.alignments import ScoringOptions
from consilience.contract.scores import Score, ScoreDocument
from consilience.errors import (
    InvalidRequest,
    NonFiniteValues,
    TooFewRows,
    Unavailable,
    UnknownLayer,
    UnpairedSides,
    UnreadableFile,
)
from consilience.numerics.knn import build
from consilience.numerics.knn.devices import Gpu, explain_missing_gpu
from consilience.numerics.stats.layers import aggregate
from consilience.numerics.stats.nulls import adjust
from consilience.scoring import score
from tests.reference_implementations import basic

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
    expected = basic.mutual_knn(basic.unit_rows(a[:, 2]), basic.unit_rows(b[:, 2]), 10)
    assert found.scores[0].value == pytest.approx(expected, abs=1e-12)


def test_a_grid_has_the_layers_of_a_in_rows_and_reports_its_best_cell() -> None:
    a, b = views()
    found = only(score(a, b[:, :2], metrics="mutual_knn", layers="all"))
    assert (len(found.grid), len(found.grid[0])) == (3, 2)
    expected = [
        [basic.mutual_knn(basic.unit_rows(x), basic.unit_rows(y), 10) for y in (b[:, 0], b[:, 1])]
        for x in a.swapaxes(0, 1)
    ]
    np.testing.assert_allclose(np.array(found.grid, dtype=float), expected, atol=1e-12)
    i, j = np.unravel_index(np.argmax(expected), (3, 2))
    assert (found.layer_a, found.layer_b, found.value) == (str(i), str(j), pytest.approx(np.max(expected)))


def test_a_grid_of_negative_scores_has_a_best_cell() -> None:
    """The reference starts its search at 0 and would report 0 and no layers."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        found = only(score(rng.normal(size=(30, 40)), rng.normal(size=(30, 40)), metrics="cka", layers="all"))
        if found.value is not None and found.value < 0:
            assert (found.layer_a, found.layer_b) == ("0", "0")
            return
    pytest.fail("no negative score among 50 independent pairs")


def test_named_layers_keep_the_requested_order() -> None:
    a, b = views()
    document = score({"early": a[:, 0], "late": a[:, 2]}, b, layers={"a": ["late", "early"], "b": ["1"]})
    assert document.a.layers == ("late", "early")
    assert document.b.layers == ("1",)


def test_several_k_give_one_score_each_from_one_graph() -> None:
    a, b = views()
    document = score(a, b, metrics={"metric": "mutual_knn", "k": [3, 10, 20]})
    assert [entry.options for entry in document.scores] == [{"k": 3}, {"k": 10}, {"k": 20}]
    for entry, k in zip(document.scores, (3, 10, 20), strict=True):
        assert entry.value == pytest.approx(basic.mutual_knn(basic.unit_rows(a[:, 2]), basic.unit_rows(b[:, 2]), k))


def test_one_cell_has_an_analytic_null_and_a_grid_a_bonferroni_bound() -> None:
    a, b = views()
    one, grid = only(score(a, b, metrics="mutual_knn")), only(score(a, b, metrics="mutual_knn", layers="all"))
    assert (one.null.method, one.null.layer_pairs, one.null.mean) == ("analytic", 1, pytest.approx(10 / 119))
    assert (grid.null.method, grid.null.layer_pairs, grid.null.p_is_bound) == ("bonferroni", 9, True)
    assert grid.null.threshold > one.null.threshold  # type: ignore[operator]  # both have one


@pytest.mark.parametrize("metric", ["mutual_knn", "cka"])
def test_the_bonferroni_bound_is_that_of_the_number_of_layer_pairs(metric: str) -> None:
    rng = np.random.default_rng(3)
    shared = rng.normal(size=(80, 1, 6))
    a, b = (0.6 * shared + rng.normal(size=(80, 2, 6)) for _ in "ab")
    grid = only(score(a, b, metrics=metric, layers="all"))
    layers = {"a": [grid.layer_a], "b": [grid.layer_b]}
    one = only(score(a, b, metrics=metric, layers=layers, null={"alpha": 0.05 / 4}))
    assert one.null.p_value is not None
    assert 1e-9 < one.null.p_value < 0.2
    assert grid.null.p_value == pytest.approx(4 * one.null.p_value, rel=1e-9)
    assert grid.null.threshold == pytest.approx(one.null.threshold, rel=1e-9)
    assert (grid.null.p_is_bound, one.null.p_is_bound) == (True, False)


def test_the_calibrated_score_is_the_share_of_the_range_above_chance() -> None:
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
    found = only(score(a, b, metrics=metric, layers="all", null={"method": "permutation", "permutations": 40}, seed=5))
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(40):
        order = rng.permutation(60)
        permuted = only(score(a, b[order], metrics=metric, layers="all", null={"method": "none"}, interval=None))
        draws.append(permuted.value)
    assert found.null.mean == pytest.approx(np.mean(draws), abs=1e-9)
    assert found.null.p_value == pytest.approx((1 + np.sum(np.array(draws) >= found.value)) / 41)
    assert (found.null.method, found.null.permutations, found.null.layer_pairs) == ("permutation", 40, 9)


def test_without_a_null_there_is_no_chance_level_and_no_calibration() -> None:
    found = only(score(*views(), metrics="cka", null={"method": "none"}))
    assert (found.null.method, found.null.p_value, found.calibrated) == ("none", None, None)


def test_the_same_seed_gives_the_same_document_except_for_timings() -> None:
    a, b = views()
    first, again = (score(a, b, seed=3, null={"method": "permutation", "permutations": 30}) for _ in range(2))
    assert first.model_copy(update={"timings_s": {}}) == again.model_copy(update={"timings_s": {}})


def test_a_file_scores_like_its_array() -> None:
    paths = (DATA / "dev_docs.npy", DATA / "dev_code.npy")
    from_files, from_arrays = score(*paths), score(*(np.load(path) for path in paths))
    assert from_files.scores == from_arrays.scores
    assert (from_files.a.name, from_arrays.a.name) == ("dev_docs", "a")


def test_errors_of_a_file_name_the_file(tmp_path: Path) -> None:
    whole, torn, absent = (tmp_path / f"{name}.npy" for name in ("whole", "torn", "absent"))
    rows, _ = views(layers=1)
    np.save(whole, rows)
    np.save(torn, np.where(rows == rows.max(), np.nan, rows))
    for path, error in ((torn, NonFiniteValues), (absent, UnreadableFile)):
        with pytest.raises(error, match=f"^File {path}: "):
            score(whole, path)


def test_constant_rows_give_an_undefined_score_with_a_reason() -> None:
    document = score(np.ones((20, 3), np.float32), views(20)[1])
    assert [entry.status for entry in document.scores] == ["undefined"] * 2
    assert [entry.reason.code for entry in document.scores if entry.reason] == ["constant-rows"] * 2
    assert [entry.value for entry in document.scores] == [None] * 2
    assert "NaN" not in document.model_dump_json()


def test_a_zero_row_makes_only_the_cells_of_its_layer_undefined() -> None:
    a, b = views(40)
    a[3, 1] = 0
    found = only(score(a, b, metrics="mutual_knn", layers="all"))
    assert found.status == "defined"
    assert found.grid[1] == (None, None, None)
    assert None not in found.grid[0] + found.grid[2]
    assert found.null.layer_pairs == 6


def test_a_zero_row_is_allowed_if_rows_are_not_scaled() -> None:
    a, b = views(40)
    a[3] = 0
    assert only(score(a, b, metrics="mutual_knn", preparation="none")).status == "defined"


def test_debiased_cka_of_a_negative_self_similarity_is_undefined() -> None:
    rows = np.eye(6, dtype=np.float32)
    found = only(score(rows, views(6)[1], metrics="cka"))
    assert found.reason is not None
    assert found.reason.code == "non-positive-self-similarity"


def test_four_rows_give_a_value_and_a_reason_for_the_missing_interval() -> None:
    a, b = views(4)
    document = score(a, b, metrics=[{"metric": "mutual_knn", "k": [1, 2]}, "cka"])
    assert [entry.interval for entry in document.scores] == [None, None, None]
    assert all("No interval" in entry.warnings[0] for entry in document.scores if entry.status == "defined")


def test_duplicate_rows_are_counted_in_a_warning() -> None:
    a, b = views(50)
    a[10:13] = a[4]
    document = score(a, b)
    assert (document.pairing.duplicates_a, document.pairing.duplicates_b) == (3, 0)
    assert document.warnings[0].startswith("3 of 50 rows of a equal an earlier row")


def test_progress_is_reported_by_stage() -> None:
    seen: list[tuple[str, int, int]] = []
    score(*views(), layers="all", report=lambda *step: seen.append(step))
    assert {stage for stage, _, _ in seen} == {"preparation", "neighbours", "kernels"}
    assert all(0 <= done <= total for _, done, total in seen)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"metrics": {"metric": "mutual_knn", "k": 120}}, InvalidRequest),
        ({"layers": {"a": ["7"], "b": "last"}}, UnknownLayer),
    ],
)
def test_options_that_the_sides_do_not_allow_are_refused(fields: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        score(*views(), **fields)


def test_sides_of_different_length_are_refused_with_both_lengths() -> None:
    with pytest.raises(UnpairedSides, match="a has 50 rows and b has 49"):
        score(views(50)[0], views(49)[1])


def test_three_rows_are_too_few() -> None:
    with pytest.raises(TooFewRows):
        score(np.ones((3, 2)), np.ones((3, 2)))


def test_an_unknown_nested_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidRequest) as refused:
        score(*views(), metrics={"metric": "mutual_knn", "kk": 3})
    assert str(refused.value) == "/metrics/kk: There is no field 'kk'; allowed: metric, k. Did you mean `k`?"


def test_options_can_be_given_as_one_value() -> None:
    a, b = views()
    options = ScoringOptions.model_validate({"metrics": "cka"})
    assert score(a, b, options).scores == score(a, b, metrics="cka").scores


def test_the_document_survives_json() -> None:
    document = score(*views(), layers="all")
    text = document.model_dump_json(by_alias=True)
    assert json.loads(text)["schema"] == "consilience.score/1"
    assert ScoreDocument.model_validate_json(text) == document


@pytest.mark.parametrize("how", ["row_max_mean", "column_max_mean", "top_k_mean", "hungarian_mean"])
def test_an_aggregate_reduces_the_grid_and_has_the_bound_of_the_maximum(how: str) -> None:
    a, b = views()
    found = only(score(a, b, metrics="mutual_knn", layers="all", aggregate=how, top_k=4))
    best = only(score(a, b, metrics="mutual_knn", layers="all"))
    assert found.value == pytest.approx(aggregate(np.array(found.grid, dtype=float), how, 4))  # type: ignore[arg-type]  # parametrised
    assert (found.aggregate, found.layer_a, found.null.threshold) == (how, best.layer_a, best.null.threshold)
    assert found.interval is None
    assert "aggregate" in found.warnings[0]


def test_a_permutation_null_of_an_aggregate_is_that_of_the_aggregate() -> None:
    a, b = views(60)
    fields = {"metrics": "mutual_knn", "layers": "all", "aggregate": "row_max_mean"}
    found = only(score(a, b, **fields, null={"method": "permutation", "permutations": 30}, seed=5))
    rng = np.random.default_rng(5)
    draws = [only(score(a, b[rng.permutation(60)], **fields, null={"method": "none"})).value for _ in range(30)]
    assert found.null.mean == pytest.approx(np.mean(draws), abs=1e-9)


def test_concat_adds_the_concatenation_of_all_layers_as_a_layer() -> None:
    a, b = views()
    document = score(a, b, metrics="cka", layers="all", concat=True, preparation="none")
    whole = score(a.reshape(120, -1), b.reshape(120, -1), metrics="cka", preparation="none")
    assert document.a.layers == ("0", "1", "2", "concat")
    assert only(document).grid[3][3] == pytest.approx(only(whole).value, abs=1e-9)


def test_concat_clamps_each_part_by_the_threshold_of_its_layer() -> None:
    a, b = views()
    preparation = {"profile": "prh", "clamp_scope": "layer", "clamp_quantile": 0.8}
    document = score(a, b, metrics="cka", layers="all", concat=True, preparation=preparation)
    thresholds = document.preparation.clamp_a
    parts = [np.clip(a[:, i], -t, t) for i, t in enumerate(thresholds)]  # type: ignore[arg-type]  # one a layer
    parts_b = [np.clip(b[:, i], -t, t) for i, t in enumerate(document.preparation.clamp_b)]  # type: ignore[arg-type]  # one a layer
    whole = score(np.concatenate(parts, axis=1), np.concatenate(parts_b, axis=1), metrics="cka")
    assert only(document).grid[3][3] == pytest.approx(only(whole).value, abs=1e-6)


@pytest.mark.parametrize("profile", ["none", "l2", "centre_l2", "prh", "prh_exact"])
def test_every_profile_is_recorded(profile: str) -> None:
    record = score(*views(), metrics="cka", preparation=profile).preparation
    assert (record.profile, record.normalise) == (profile, None if profile == "none" else "l2")
    assert record.centre == (profile == "centre_l2")
    assert (record.clamp_a is not None) == profile.startswith("prh")


def test_p_values_are_corrected_over_all_scores_on_request() -> None:
    a, b = views()
    fields = {"metrics": [{"metric": "mutual_knn", "k": [1, 2, 3]}], "layers": {"a": ["0"], "b": ["0"]}}
    plain = score(a, b, **fields)
    holm = score(a, b, **fields, null={"correction": "holm"})
    p = [entry.null.p_value for entry in plain.scores]
    assert [entry.null.p_adjusted for entry in plain.scores] == [None] * 3
    adjusted = [entry.null.p_adjusted for entry in holm.scores]
    assert adjusted == pytest.approx(adjust(np.array(p, dtype=float), "holm").tolist())
    assert [entry.null.p_value for entry in holm.scores] == p


def test_sides_can_be_paired_by_id() -> None:
    a, b = views(80)
    order = np.random.default_rng(3).permutation(80)
    ids_a, ids_b = [f"i{i}" for i in range(80)], [f"i{i}" for i in order[:70]]
    document = score(a, b[order[:70]], pairing="id", ids=(ids_a, ids_b), metrics="mutual_knn")
    kept = np.sort(order[:70])
    assert only(document).value == only(score(a[kept], b[kept], metrics="mutual_knn")).value
    assert (document.pairing.by, document.pairing.matched, document.n) == ("id", 70, 70)
    assert (document.pairing.dropped_a, document.pairing.dropped_b) == (10, 0)


def test_pairing_by_id_needs_ids_on_both_sides() -> None:
    a, b = views()
    with pytest.raises(InvalidRequest, match="b has none"):
        score(a, b, pairing="id", ids=([str(i) for i in range(120)], None))


def test_captions_of_one_image_are_not_neighbours_of_each_other() -> None:
    """40 images, 3 captions each: without groups an image's copies are its own nearest neighbours."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 8))
    captions = np.repeat(images, 3, axis=0) + 0.5 * rng.normal(size=(120, 8))
    names = [f"image{i}" for i in range(40)]
    of_captions = [name for name in names for _ in range(3)]
    document = score(
        images, captions, pairing="id", ids=(names, of_captions), groups=(None, of_captions), metrics="mutual_knn"
    )
    found = only(document)
    assert (document.pairing.groups, document.n, found.null.method) == (40, 120, "permutation")
    x = basic.unit_rows(np.repeat(images, 3, axis=0))
    y = basic.unit_rows(captions)
    owner = np.repeat(np.arange(40), 3)
    lists = []
    for side in (x, y):
        similarity = side.astype(np.float32) @ side.astype(np.float32).T
        similarity[owner[:, None] == owner] = -np.inf
        lists.append(np.lexsort((np.broadcast_to(np.arange(120), (120, 120)), -similarity), axis=1)[:, :10])
    expected = np.mean([len(set(p) & set(q)) / 10 for p, q in zip(*lists, strict=True)])
    assert found.value == pytest.approx(expected, abs=3 / 1200)  # copies tie, and float32 rounding orders them


def test_an_analytic_null_is_refused_if_groups_restrict_permutations() -> None:
    a, b = views()
    groups = [str(i // 2) for i in range(120)]
    with pytest.raises(InvalidRequest, match="groups forbid some"):
        score(a, b, groups=(groups, None), null={"method": "analytic"})


def test_contradictory_groups_are_refused() -> None:
    a, b = views()
    with pytest.raises(UnpairedSides, match="divide the items differently; the first difference is at row 1"):
        score(a, b, groups=(["x"] * 120, ["x", "y"] * 60))


def test_sides_of_different_length_with_groups_are_refused() -> None:
    with pytest.raises(UnpairedSides, match="a has 50 rows and b has 49"):
        score(views(50)[0], views(49)[1], groups=(["x"] * 50, ["x"] * 49))


def test_a_missing_device_is_refused_and_the_processor_is_recorded() -> None:
    a, b = views()
    with pytest.raises(InvalidRequest, match="'gpu' is not a device"):
        score(a, b, device="gpu")
    if explain_missing_gpu():
        with pytest.raises(Unavailable, match="The device cuda is not available"):
            score(a, b, metrics="cka", device="cuda")
    found = only(score(a, b, metrics="mutual_knn", device="auto"))
    assert found.neighbours is not None
    assert found.neighbours.device == "cpu"


def test_a_score_on_a_gpu_names_the_gpu_and_equals_that_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = views()
    on_processor = only(score(a, b, metrics="mutual_knn"))
    monkeypatch.setattr(scoring, "check_device", lambda _: None)
    monkeypatch.setattr(
        build, "find_gpu", lambda _: Gpu("cpu", "of the tests")
    )  # torch on the processor stands in for a GPU
    on_gpu = only(score(a, b, metrics="mutual_knn", device="cuda"))
    assert on_gpu.neighbours is not None
    assert (on_gpu.neighbours.device, on_gpu.neighbours.verified) == ("cpu of the tests", 1.0)
    assert (on_gpu.value, on_gpu.interval) == (on_processor.value, on_processor.interval)


@pytest.mark.parametrize("metric", ["mutual_knn", "second_order_cosine", "cka", "procrustes", "rsa"])
def test_products_too_large_for_float32_give_an_undefined_score(metric: str) -> None:
    a, b = views(40)
    huge = a.astype(np.float64) * 1e30
    found = only(score(huge, b, metrics=metric, preparation="none"))
    assert found.reason is not None
    assert found.reason.code == "values-too-large"
    assert only(score(huge, b, metrics=metric)).status == "defined"
