"""Studies: what comes out, one matrix of scores for each metric and what it says of all models."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal

from pydantic import Field

from consilience.contract.base import Document, Finite, Metadata, Share
from consilience.contract.metric import Direction
from consilience.contract.metrics import METRICS
from consilience.contract.scores import GraphUse, Interval, Null, Reason
from consilience.contract.studies import Difference, Factor, Trend


class StudyMember(Document):
    """A model of a study."""

    label: str
    id: str | None
    """The embedding set's id; null where arrays or local files were scored."""
    n: int
    depth: int
    """How many layers it has."""
    width: int
    """Columns of its widest layer that takes part."""
    metadata: Metadata


class CellScore(Document):
    """What a cell says under one metric: the entry of the two models' own score document, without its grid."""

    status: Literal["defined", "undefined"]
    reason: Reason | None = None
    value: Finite | None
    calibrated: Finite | None = None
    layer_a: str | None
    layer_b: str | None
    null: Null
    interval: Interval | None = None
    estimator: Literal["exact", "estimated", "approximate"] = "exact"
    warnings: tuple[str, ...] = ()


class StudyCell(CellScore):
    """One cell of a matrix."""

    row: str
    column: str
    p_holm: Share | None = None
    """The p-value corrected over all cells of the matrix; null while some are not done."""
    p_benjamini_hochberg: Share | None = None


class Place(Document):
    """Where a picture has a model."""

    label: str
    x: Finite
    y: Finite


class Picture(Document):
    """Places of models whose distances are near those of the matrix."""

    method: Literal["mds", "umap"]
    places: tuple[Place, ...] = ()
    stress: Finite | None = None
    """Kruskal's stress-1 of mds: 0 where all distances are kept; above about 0.2 the picture is not to be trusted."""
    reason: Reason | None = None
    """Why there is none."""
    warnings: tuple[str, ...] = ()


class StudyMatrix(Document):
    """All cells under one metric."""

    metric: str
    options: dict[str, Any]
    definition: str
    direction: Direction
    cells: tuple[StudyCell, ...]
    distances: tuple[tuple[Finite | None, ...], ...] | None = None
    """distances[i][j] of row i and column j: -log of a similarity, a distance as it is; null where there is none: undefined, or
    a similarity not above 0, which is infinitely far."""
    pictures: tuple[Picture, ...] = ()
    """Of models that are compared with each other."""
    order: tuple[str, ...] | None = None
    """Labels along a dendrogram of average linkage."""

    @property
    def name(self) -> str:
        """The metric with its k and every option that is not the default, as the command line writes it."""
        kind = METRICS.get(self.metric)
        usual = kind.model_validate({"metric": self.metric}).options() if kind else {}
        told = {key: value for key, value in self.options.items() if key == "k" or usual.get(key, value) != value}
        words = ",".join(f"{key}={_word(value)}" for key, value in told.items())
        return f"{self.metric}:{words}" if words else self.metric


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Association(Document):
    """A correlation with its interval."""

    value: Finite
    low: Finite | None
    high: Finite | None
    """Null with too few models, and where the value is 1 or -1."""
    p_value: Share
    exact: bool
    """Whether all orders of the models were gone through for p."""
    n: int


class TrendBin(Document):
    """Models whose number is in [low, high), the last bin with its end."""

    low: Finite
    high: Finite
    n: int
    mean: Finite | None
    se: Finite | None


class TrendPoint(Document):
    """One model of a trend."""

    label: str
    x: Finite
    y: Finite


class TrendResult(Document):
    """What a trend came to under one metric."""

    metric: str
    trend: Trend
    status: Literal["defined", "undefined"]
    reason: Reason | None = None
    points: tuple[TrendPoint, ...] = ()
    spearman: Association | None = None
    pearson: Association | None = None
    partial_spearman: Association | None = None
    partial_pearson: Association | None = None
    bins: tuple[TrendBin, ...] = ()
    """Of models compared with each other, the mean over pairs inside the bin; else over models."""
    warnings: tuple[str, ...] = ()


class FactorResult(Document):
    """What a factor came to under one metric."""

    metric: str
    factor: Factor
    status: Literal["defined", "undefined"]
    reason: Reason | None = None
    levels: tuple[Finite, ...] = ()
    means: tuple[Finite, ...] = ()
    """The mean score at each level."""
    series: int = 0
    value: Finite | None = None
    """Mean rank correlation of level and score: 1 where every series rises all the way, 0 at chance."""
    p_value: Share | None = None
    exact: bool = False
    test: Literal["joint", "page"] | None = None


class DifferenceResult(Document):
    """How much nearer the first model is to the reference than the second."""

    metric: str
    difference: Difference
    status: Literal["defined", "undefined"]
    reason: Reason | None = None
    value: Finite | None = None
    interval: Interval | None = None
    warnings: tuple[str, ...] = ()


class Agreement(Document):
    """How far two metrics rank the cells of the study alike."""

    first: str
    second: str
    spearman: Association | None
    """Null with fewer than three cells, or where one metric is constant."""


class StudyDocument(Document):
    """The answer to a study request, as far as it is there."""

    schema_: Literal["consilience.study/1"] = Field(default="consilience.study/1", alias="schema")
    square: bool
    """Whether the rows were compared with each other."""
    rows: tuple[StudyMember, ...]
    columns: tuple[StudyMember, ...]
    done: int
    """Cells that are there, under each metric."""
    total: int
    matrices: tuple[StudyMatrix, ...]
    trends: tuple[TrendResult, ...] = ()
    factors: tuple[FactorResult, ...] = ()
    differences: tuple[DifferenceResult, ...] = ()
    agreement: tuple[Agreement, ...] = ()
    graphs: GraphUse | None = None
    cells_known: int = 0
    """Cells that an earlier run or study had found already."""
    seed: int
    versions: dict[str, str] = Field(default={})
    timings_s: dict[str, Finite] = Field(default={})

    @property
    def complete(self) -> bool:
        """Whether every cell is there."""
        return self.done == self.total

    def table(self) -> Iterator[dict[str, object]]:
        """One flat record for each cell and metric, for CSV and Parquet."""
        return chain.from_iterable((flatten(matrix, cell) for cell in matrix.cells) for matrix in self.matrices)


#: The columns of a study as a table.
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
    """A cell as a record of plain values, by the columns of `TABLE`."""
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
        "layer_pairs": cell.null.cells,
        "p_value": cell.null.p_value,
        "p_holm": cell.p_holm,
        "p_benjamini_hochberg": cell.p_benjamini_hochberg,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "reason": cell.reason.code if cell.reason else None,
    }
