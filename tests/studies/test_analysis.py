"""Trends, factors and differences of a study, compared with scipy and a few lines of numpy on its cells."""

import numpy as np
import pytest
from scipy import stats

from consilience.contract.study_results import DifferenceResult, FactorResult, StudyDocument, TrendResult
from consilience.numerics.rows.arrays import Float32Array, Float64Array
from consilience.scoring import score
from consilience.studies.local import study

N = 120
LATENT = np.random.default_rng(4).normal(size=(N, 6))


def make(noise: float, seed: int, dim: int = 10) -> Float32Array:
    rng = np.random.default_rng(seed)
    made = LATENT @ rng.normal(size=(6, dim)) + noise * rng.normal(size=(N, dim))
    return made.astype(np.float32)


NOISES = (3.0, 2.0, 1.5, 1.0, 0.6, 0.3)
ROWS = {f"size {i}": make(noise, i, 10 + i) for i, noise in enumerate(NOISES)}
COLUMNS = {f"vision {i}": make(0.5, 20 + i) for i in range(3)}
SIZES = {label: {"params": 10.0**i, "family": "x"} for i, label in enumerate(ROWS)}
KNN = {"metrics": [{"metric": "mutual_knn", "k": 5}], "interval": None}


def values(found: StudyDocument) -> Float64Array:
    cells = {(cell.row, cell.column): cell.value for cell in found.matrices[0].cells}
    return np.array([[cells[row, column] for column in COLUMNS] for row in ROWS], dtype=float)


def trend(by: str = "params", *, square: bool = False, **fields: object) -> tuple[TrendResult, StudyDocument]:
    columns = None if square else COLUMNS
    found = study(ROWS, columns, metadata=SIZES, trends=[{"by": by, **fields}], **KNN)  # type: ignore[arg-type]  # plain JSON
    return found.trends[0], found


def test_a_trend_correlates_mean_scores_with_a_number_of_the_models() -> None:
    result, found = trend(covariates=["width"])
    y, x = values(found).mean(axis=1), [SIZES[row]["params"] for row in ROWS]
    assert [point.y for point in result.points] == pytest.approx(y)
    assert result.spearman is not None
    assert result.pearson is not None
    assert result.spearman.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert result.spearman.exact
    assert result.pearson.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert result.pearson.low is not None
    assert result.partial_spearman is None  # widths and sizes rank the models alike, so nothing remains


def test_a_partial_correlation_is_that_of_residuals() -> None:
    x, z = np.array([1.0, 3, 2, 9, 4, 5]), np.array([3.0, 1, 4, 1.5, 9, 2])
    metadata = {row: {"steps": steps, "depth": depth} for row, steps, depth in zip(ROWS, x, z, strict=True)}
    trends = [{"by": "steps", "covariates": ["depth"]}]
    found = study(ROWS, COLUMNS, metadata=metadata, trends=trends, **KNN)  # type: ignore[arg-type]  # plain JSON
    result, y = found.trends[0], values(found).mean(axis=1)

    def residuals(of: Float64Array, by: Float64Array) -> Float64Array:
        return np.asarray(of - np.polyval(np.polyfit(by, of, 1), by))

    ranks = [stats.rankdata(each) for each in (x, y, z)]
    for entry, (a, b, fixed) in (
        (result.partial_spearman, ranks),
        (result.partial_pearson, (x, y, z)),
    ):
        assert entry is not None
        assert entry.value == pytest.approx(stats.pearsonr(residuals(a, fixed), residuals(b, fixed)).statistic)
        assert entry.low is not None
        assert entry.high is not None
        assert entry.low < entry.value < entry.high


def test_a_trend_against_one_model_uses_its_column() -> None:
    result, found = trend(reference="vision 1")
    assert [point.y for point in result.points] == pytest.approx(values(found)[:, 1])


def test_a_trend_can_use_calibrated_scores() -> None:
    result, found = trend(value="calibrated")
    cells = {(cell.row, cell.column): cell.calibrated for cell in found.matrices[0].cells}
    means = [np.mean([cells[row, column] for column in COLUMNS]) for row in ROWS]  # type: ignore[arg-type]  # all are defined
    assert [point.y for point in result.points] == pytest.approx(means)


def test_a_trend_can_be_over_the_columns() -> None:
    found = study(
        ROWS,
        COLUMNS,
        metadata={c: {"vtab": i} for i, c in enumerate(COLUMNS)},
        trends=[{"by": "vtab", "side": "columns"}],
        **KNN,
    )
    assert [point.y for point in found.trends[0].points] == pytest.approx(values(found).mean(axis=0))


def test_bins_of_a_square_study_contain_pairs_of_models() -> None:
    result, found = trend(square=True, bins=[1, 200, 1e5])
    cells = {(cell.row, cell.column): cell.value for cell in found.matrices[0].cells}
    small = [cells[pair] for pair in cells if all(label in ("size 0", "size 1", "size 2") for label in pair)]
    assert len(small) == 3
    assert [each.n for each in result.bins] == [3, 3]
    assert result.bins[0].mean == pytest.approx(np.mean(small))  # type: ignore[arg-type]  # all are defined
    assert result.bins[1].mean > result.bins[0].mean  # type: ignore[operator]  # both hold pairs
    assert result.bins[0].se is not None


def test_bins_of_rows_against_columns_contain_models() -> None:
    result, found = trend(bins=2)
    y = values(found).mean(axis=1)
    assert [each.mean for each in result.bins] == pytest.approx([y[:3].mean(), y[3:].mean()])


def test_a_trend_over_constant_metadata_is_undefined_with_a_reason() -> None:
    found = study(ROWS, COLUMNS, metadata={row: {"params": 7} for row in ROWS}, trends=[{"by": "params"}], **KNN)
    result = found.trends[0]
    assert (result.status, result.spearman) == ("undefined", None)
    assert result.reason is not None
    assert (result.reason.code, result.reason.detail) == (
        "constant-metadata",
        "The value of 'params' is 7 for all models.",
    )


def factor(**fields: object) -> FactorResult:
    metadata = {row: {"words": 5.0 * i} for i, row in enumerate(ROWS)}
    return study(ROWS, COLUMNS, metadata=metadata, factors=[{"by": "words", **fields}], **KNN).factors[0]  # type: ignore[arg-type]  # plain JSON


def test_a_factor_tests_for_a_rise_of_every_series() -> None:
    result = factor()
    assert (result.status, result.series, result.levels) == ("defined", 3, (0.0, 5.0, 10.0, 15.0, 20.0, 25.0))
    assert result.means == tuple(sorted(result.means))
    assert result.value is not None
    assert result.value > 0.9
    assert result.p_value == pytest.approx(1 / 720)  # one order of six levels among 720
    assert (result.exact, result.test) == (True, "joint")


def test_independent_series_use_pages_test() -> None:
    found = study(ROWS, COLUMNS, **KNN)
    result = factor(independent=True)
    page = stats.page_trend_test(values(found).T, method="exact")
    assert result.test == "page"
    assert result.p_value == pytest.approx(page.pvalue, rel=1e-6)


def test_a_factor_within_models_has_a_series_for_each_model() -> None:
    metadata = {row: {"words": i % 3, "model": f"text {i // 3}"} for i, row in enumerate(ROWS)}
    found = study(ROWS, COLUMNS, metadata=metadata, factors=[{"by": "words", "within": "model"}], **KNN)
    assert (found.factors[0].series, len(found.factors[0].levels)) == (6, 3)


@pytest.mark.parametrize("metric", [{"metric": "mutual_knn", "k": 5}, "cka"])
def test_a_difference_has_a_paired_interval(metric: object) -> None:
    differences = [{"first": "size 5", "second": "size 3", "reference": "vision 0"}]
    found = study(ROWS, COLUMNS, metrics=[metric], differences=differences)
    result = found.differences[0]
    first, second = (score(ROWS[row], COLUMNS["vision 0"], metrics=[metric]).scores[0] for row in ("size 5", "size 3"))
    assert result.value == pytest.approx(first.value - second.value)  # type: ignore[operator]  # both are defined
    assert result.interval is not None
    assert result.interval.method.startswith("paired ")
    assert result.interval.low < result.value < result.interval.high  # type: ignore[operator]  # it is defined
    widths = [entry.interval.high - entry.interval.low for entry in (first, second) if entry.interval]
    assert result.interval.high - result.interval.low < np.hypot(*widths)


def test_the_difference_of_a_model_from_itself_is_exactly_0() -> None:
    rows = {"a": ROWS["size 5"], "b": 2 * ROWS["size 5"]}
    differences = [{"first": "a", "second": "b", "reference": "vision 0"}]
    result = study(rows, COLUMNS, differences=differences, **KNN).differences[0]
    assert result.interval is not None
    assert (result.value, result.interval.low, result.interval.high) == (0.0, 0.0, 0.0)


def test_a_difference_without_an_interval_has_a_reason() -> None:
    differences = [{"first": "size 5", "second": "size 3", "reference": "vision 0"}]

    def code(**options: object) -> str | None:
        result: DifferenceResult = study(ROWS, COLUMNS, differences=differences, interval=None, **options).differences[
            0
        ]  # type: ignore[arg-type]  # plain JSON
        assert result.value is not None
        assert result.interval is None
        return result.reason and result.reason.code

    assert code(metrics="svcca", null="none") == "no-paired-interval"
    assert code(metrics="mutual_knn", estimate={"queries": 100}) == "query-subset"
    assert code(metrics=[{"metric": "mutual_knn", "k": 40}]) == "too-few-rows"


def test_a_difference_in_a_square_study_finds_its_cells_in_either_order() -> None:
    differences = [{"first": "size 5", "second": "size 0", "reference": "size 4"}]
    result = study(ROWS, differences=differences, **KNN).differences[0]
    assert result.interval is not None
    assert result.interval.low > 0
