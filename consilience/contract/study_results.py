"""Results of studies: a matrix of scores for each metric, and analyses over all models."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal

from pydantic import Field

from consilience.contract.base import Document, Finite, Metadata, Share
from consilience.contract.metric import Direction
from consilience.contract.metrics import METRICS
from consilience.contract.scores import GraphUse, Interval, NullDistribution, Reason
from consilience.contract.studies import Difference, Factor, Trend


class StudyMember(Document):
    """Model of a study."""

    label: str
    id: str | None
    """Id of the embedding set; null if the model was an array or a local file."""
    n: int
    """Number of rows."""
    depth: int
    """Number of layers."""
    width: int
    """Number of columns of the widest compared layer."""
    metadata: Metadata


class CellScore(Document):
    """Score of two models under one metric, without the grid of layer pairs."""

    status: Literal["defined", "undefined"]
    """Whether the score is defined for these rows."""
    reason: Reason | None = None
    """Reason that the score is undefined; null if it is defined."""
    value: Finite | None
    """Score; null if it is undefined."""
    calibrated: Finite | None = None
    """(value - threshold) / (1 - threshold), and 0 if that is negative; null for distances and if there is no threshold."""
    layer_a: str | None
    """Layer of the row's model in the best layer pair."""
    layer_b: str | None
    """Layer of the column's model in the best layer pair."""
    null: NullDistribution
    interval: Interval | None = None
    estimator: Literal["exact", "estimated", "approximate"] = "exact"
    """Kind of computation: `exact`, `estimated` from a sample of query rows, or `approximate` because the graphs miss
    some neighbours."""
    warnings: tuple[str, ...] = ()


class StudyCell(CellScore):
    """Cell of a matrix: the score of one row's model and one column's model."""

    row: str
    """Label of the row's model."""
    column: str
    """Label of the column's model."""
    p_holm: Share | None = None
    """P-value with the Holm correction over all cells of the matrix; null until all cells are done."""
    p_benjamini_hochberg: Share | None = None
    """P-value with the Benjamini-Hochberg correction over all cells of the matrix; null until all cells are done."""


class ModelCoordinates(Document):
    """Coordinates of a model."""

    label: str
    """Label of the model."""
    x: Finite
    y: Finite


class ModelLayout(Document):
    """Two-dimensional coordinates of the models, whose distances approximate those of the matrix."""

    method: Literal["mds", "umap"]
    """Method: multidimensional scaling (`mds`) or `umap`."""
    coordinates: tuple[ModelCoordinates, ...] = ()
    """Coordinates of each model; empty if there are none."""
    stress: Finite | None = None
    """Kruskal's stress-1 of `mds`: 0 if all distances are preserved; above about 0.2 the coordinates are unreliable."""
    reason: Reason | None = None
    """Reason that there are no coordinates."""
    warnings: tuple[str, ...] = ()


class StudyMatrix(Document):
    """All cells under one metric."""

    metric: str
    """Name of the metric."""
    options: dict[str, Any]
    """Options of the metric."""
    definition: str
    """Definition of the metric that was computed."""
    direction: Direction
    """Whether agreement is a large value (`similarity`) or a small value (`distance`)."""
    cells: tuple[StudyCell, ...]
    distances: tuple[tuple[Finite | None, ...], ...] | None = None
    """Distances between models: distances[i][j] of row i and column j is -log of a similarity, or the score itself for a
    distance metric. Null if the score is undefined, or if a similarity is not above 0."""
    layouts: tuple[ModelLayout, ...] = ()
    """Two-dimensional coordinates of the models; only if the models are compared with each other."""
    dendrogram_order: tuple[str, ...] | None = None
    """Labels in the order of the leaves of an average-linkage dendrogram."""

    @property
    def name(self) -> str:
        """Name of the metric with k and all options that differ from their defaults, as on the command line."""
        kind = METRICS.get(self.metric)
        usual = kind.model_validate({"metric": self.metric}).options() if kind else {}
        options = {key: value for key, value in self.options.items() if key == "k" or usual.get(key, value) != value}
        text = ",".join(f"{key}={_word(value)}" for key, value in options.items())
        return f"{self.metric}:{text}" if text else self.metric


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Association(Document):
    """Correlation coefficient with its confidence interval and p-value."""

    value: Finite
    """Correlation coefficient."""
    low: Finite | None
    """Lower end of the interval; null under the same conditions as `high`."""
    high: Finite | None
    """Upper end of the interval; null if there are too few models or if the value is 1 or -1."""
    p_value: Share
    """Two-sided p-value."""
    exact: bool
    """Whether the p-value comes from all permutations of the models instead of a random sample."""
    n: int
    """Number of observations."""


class TrendBin(Document):
    """Models whose number is in [low, high); the last bin includes `high`."""

    low: Finite
    high: Finite
    n: int
    """Number of models, or of model pairs if the models are compared with each other."""
    mean: Finite | None
    """Mean value in the bin."""
    se: Finite | None
    """Standard error of the mean."""


class TrendPoint(Document):
    """Model of a trend."""

    label: str
    """Label of the model."""
    x: Finite
    """Number of the model."""
    y: Finite
    """Score of the model."""


class TrendResult(Document):
    """Result of a trend under one metric."""

    metric: str
    trend: Trend
    status: Literal["defined", "undefined"]
    reason: Reason | None = None
    points: tuple[TrendPoint, ...] = ()
    """Number and score of each model."""
    spearman: Association | None = None
    """Spearman correlation."""
    pearson: Association | None = None
    """Pearson correlation."""
    partial_spearman: Association | None = None
    """Partial Spearman correlation with the covariates held fixed."""
    partial_pearson: Association | None = None
    """Partial Pearson correlation with the covariates held fixed."""
    bins: tuple[TrendBin, ...] = ()
    """Mean score in each bin: over the pairs within the bin if the models are compared with each other, otherwise over
    the models."""
    warnings: tuple[str, ...] = ()


class FactorResult(Document):
    """Result of a factor under one metric."""

    metric: str
    factor: Factor
    status: Literal["defined", "undefined"]
    reason: Reason | None = None
    levels: tuple[Finite, ...] = ()
    """Levels of the factor, in rising order."""
    means: tuple[Finite, ...] = ()
    """Mean score at each level."""
    series: int = 0
    """Number of series."""
    value: Finite | None = None
    """Mean rank correlation of level and score: 1 if every series rises at every step, 0 at chance."""
    p_value: Share | None = None
    """P-value of the trend."""
    exact: bool = False
    """Whether the p-value comes from all permutations instead of a random sample."""
    test: Literal["joint", "page"] | None = None
    """Test that gave the p-value: Page's test, or a joint permutation of all series."""


class DifferenceResult(Document):
    """Difference of the alignment scores of two models with a reference model, under one metric."""

    metric: str
    difference: Difference
    status: Literal["defined", "undefined"]
    reason: Reason | None = None
    value: Finite | None = None
    """Score of the first model minus score of the second model."""
    interval: Interval | None = None
    warnings: tuple[str, ...] = ()


class Agreement(Document):
    """Rank agreement of two metrics over the cells of a study."""

    first: str
    """Name of the first metric."""
    second: str
    """Name of the second metric."""
    spearman: Association | None
    """Spearman correlation of the two metrics over the cells. Null if there are fewer than three cells or if one metric
    is constant."""


class StudyDocument(Document):
    """Result of a study request. While the job runs, it contains the cells that are done."""

    schema_: Literal["consilience.study/1"] = Field(default="consilience.study/1", alias="schema")
    square: bool
    """Whether the rows were compared with each other."""
    rows: tuple[StudyMember, ...]
    columns: tuple[StudyMember, ...]
    done: int
    """Number of finished cells under each metric."""
    total: int
    """Total number of cells under each metric."""
    matrices: tuple[StudyMatrix, ...]
    """One matrix of scores for each metric."""
    trends: tuple[TrendResult, ...] = ()
    factors: tuple[FactorResult, ...] = ()
    differences: tuple[DifferenceResult, ...] = ()
    agreement: tuple[Agreement, ...] = ()
    """Rank agreement of each pair of metrics."""
    graphs: GraphUse | None = None
    """Use of the cache of neighbour graphs; null if no graph was needed."""
    cells_reused: int = 0
    """Number of cells that an earlier run or study had computed."""
    seed: int
    versions: dict[str, str] = Field(default={})
    timings_s: dict[str, Finite] = Field(default={})
    """Wall-clock time of each step, in seconds."""

    @property
    def complete(self) -> bool:
        """True if all cells are finished."""
        return self.done == self.total

    def table(self) -> Iterator[dict[str, object]]:
        """Yield one flat record for each cell and metric, for CSV and Parquet."""
        return chain.from_iterable((flatten(matrix, cell) for cell in matrix.cells) for matrix in self.matrices)


#: Columns of the table of a study, with their types.
TABLE: dict[str, type] = {
    "metric": str,
    "row": str,
    "column": str,
    "status": str,
    "value": float,
    "calibrated": float,
    "layer_row": str,
    "layer_column": str,
    "null_method": str,
    "null_mean": float,
    "null_threshold": float,
    "layer_pairs": int,
    "p_value": float,
    "p_holm": float,
    "p_benjamini_hochberg": float,
    "low": float,
    "high": float,
    "reason": str,
}


def flatten(matrix: StudyMatrix, cell: StudyCell) -> dict[str, object]:
    """Return a cell as a record of plain values, with the columns of `TABLE`."""
    interval = cell.interval
    return {
        "metric": matrix.name,
        "row": cell.row,
        "column": cell.column,
        "status": cell.status,
        "value": cell.value,
        "calibrated": cell.calibrated,
        "layer_row": cell.layer_a,
        "layer_column": cell.layer_b,
        "null_method": cell.null.method,
        "null_mean": cell.null.mean,
        "null_threshold": cell.null.threshold,
        "layer_pairs": cell.null.layer_pairs,
        "p_value": cell.null.p_value,
        "p_holm": cell.p_holm,
        "p_benjamini_hochberg": cell.p_benjamini_hochberg,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "reason": cell.reason.code if cell.reason else None,
    }
