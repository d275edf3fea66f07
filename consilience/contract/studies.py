"""Requests for studies, which compare many models at once."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from consilience.contract.alignments import JobOptions, ScoringOptions, Side
from consilience.contract.base import Finite, Level, Metadata, Name, Request

#: Number of each model: a key of its metadata, `width` (columns of its widest compared layer) or `depth` (number of layers).
Quantity = Annotated[str, Field(min_length=1, max_length=128)]
BUILT_IN: tuple[str, ...] = ("width", "depth")
StudySide = Literal["rows", "columns"]
ModelLabel = Annotated[str, Field(min_length=1, max_length=128)]


class Trend(Request):
    """Test for a trend: whether alignment rises with a number of the models."""

    by: Quantity = Field(
        description="Key of the models' metadata, or `width` (columns of the widest compared layer) or `depth` (number of "
        "layers)."
    )
    side: StudySide = Field(default="rows", description="Side whose models are analysed: `rows` or `columns`.")
    reference: ModelLabel | None = Field(
        default=None,
        description="Label of one model of the other side; null uses the mean over all models of the other side.",
    )
    value: Literal["score", "calibrated"] = Field(
        default="score", description="Value to analyse: the score, or the calibrated score."
    )
    covariates: Annotated[tuple[Quantity, ...], Field(max_length=4)] = Field(
        default=(), description="Numbers of the models that a partial correlation holds fixed, for example `width`."
    )
    bins: (
        Annotated[int, Field(strict=True, ge=2, le=64)] | Annotated[tuple[Finite, ...], Field(min_length=2)] | None
    ) = Field(
        default=None,
        description="Number of bins with equally many models each as far as possible, or the bin edges in rising order. "
        "Null computes no bins.",
    )
    level: Level = Field(default=0.95, description="Level of the confidence intervals.")

    @model_validator(mode="after")
    def _edges_rise(self) -> Self:
        edges = self.bins if isinstance(self.bins, tuple) else ()
        if any(high <= low for low, high in pairwise(edges)):
            raise ValueError("the bin edges must be in rising order")
        return self


class Factor(Request):
    """Test for a trend of alignment over the ordered levels of a factor, for example the length of a caption."""

    by: Quantity = Field(description="Key of the models' metadata that holds the level, a number.")
    side: StudySide = Field(default="rows", description="Side whose models have the levels: `rows` or `columns`.")
    within: Quantity | None = Field(
        default=None,
        description="Key of the models' metadata that identifies the series of a model, for example its text model; each "
        "series has every level once. Null: all models form one series.",
    )
    value: Literal["score", "calibrated"] = Field(
        default="score", description="Value to analyse: the score, or the calibrated score."
    )
    alternative: Literal["increasing", "decreasing", "two_sided"] = Field(
        default="increasing", description="Alternative hypothesis: scores rise with the level, fall, or either."
    )
    independent: bool = Field(
        default=False,
        description="Whether the series are independent, which means that no two share an embedding set. True uses Page's "
        "test; false permutes all series jointly.",
    )


class Difference(Request):
    """Comparison of two models by their alignment with a reference model, with a confidence interval."""

    first: ModelLabel = Field(description="ModelLabel of the first model.")
    second: ModelLabel = Field(description="ModelLabel of the second model.")
    reference: ModelLabel = Field(description="ModelLabel of the reference model.")
    level: Level = Field(default=0.95, description="Level of the confidence interval.")


#: Maximum number of models of one side.
STUDY_MEMBERS_MAX = 512
#: Version of the cells; increased when the same sets and options give other scores.
CELL_VERSION = 2


class Member(Side):
    """Model of a study: an embedding set with a label and metadata."""

    label: Name | None = Field(
        default=None, description="Label of the model in the study; null uses the name of the set."
    )
    metadata: Metadata = Field(
        default={}, description="Metadata that is added to the set's own; on equal keys these values are used."
    )


Members = Annotated[tuple[Member, ...], Field(min_length=1, max_length=STUDY_MEMBERS_MAX)]


class StudyOptions(JobOptions):
    """Options of a study."""

    trends: Annotated[tuple[Trend, ...], Field(max_length=32)] = Field(
        default=(), description="Trends to test: whether alignment rises with a number of the models."
    )
    factors: Annotated[tuple[Factor, ...], Field(max_length=32)] = Field(
        default=(), description="Factors to test: whether alignment rises over the ordered levels of a factor."
    )
    differences: Annotated[tuple[Difference, ...], Field(max_length=256)] = Field(
        default=(), description="Pairs of models to compare by their alignment with a reference model."
    )
    umap: bool = Field(
        default=False,
        description="Whether to also compute coordinates with UMAP; requires the extra `studies` on the worker.",
    )

    @model_validator(mode="after")
    def _of_a_study(self) -> Self:
        if self.null.correction != "none":
            raise ValueError(
                "a study does not have `null.correction`: it always reports both corrections over its cells"
            )
        if self.gallery_sizes is not None:
            raise ValueError("a study does not have `gallery_sizes`: it computes no gallery-size curves")
        return self

    def scoring(self) -> ScoringOptions:
        """Return the scoring options of each cell."""
        return ScoringOptions.model_validate({name: getattr(self, name) for name in ScoringOptions.model_fields})


class StudyRequest(StudyOptions):
    """Request for the alignment of many models: rows with columns, or all rows with each other."""

    rows: Members = Field(description="Models of the rows.")
    columns: Members | None = Field(
        default=None, description="Models of the columns; null compares the rows with each other."
    )

    @model_validator(mode="after")
    def _more_than_one(self) -> Self:
        if self.columns is None and len(self.rows) < 2:
            raise ValueError("a study needs at least two models in `rows`, or models in `columns`")
        if self.columns is None and self.layers.a != self.layers.b:
            raise ValueError("`layers` must be the same for both sides if the rows are compared with each other")
        return self

    @property
    def square(self) -> bool:
        """True if the rows are compared with each other."""
        return self.columns is None

    def cells(self) -> Iterator[tuple[int, int]]:
        """Yield the row and column number of every cell that is computed, in order."""
        return order_cells(self, len(self.rows), None if self.columns is None else len(self.columns))


class StudyAdditions(Request):
    """Models to add to a study."""

    rows: Members | None = Field(default=None, description="Models to add to the rows.")
    columns: Members | None = Field(
        default=None, description="Models to add to the columns; only for a study that compares rows with columns."
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.rows is None and self.columns is None:
            raise ValueError("the request adds no models: give `rows`, `columns` or both")
        return self


def is_mirrored(options: ScoringOptions) -> bool:
    """Return whether the matrix of models compared with each other is symmetric."""
    sided = options.aggregate in ("row_max_mean", "column_max_mean")
    return not sided and all(metric.is_symmetric for metric in options.metrics)


def order_cells(options: ScoringOptions, rows: int, columns: int | None) -> Iterator[tuple[int, int]]:
    """Yield every cell that is computed, in an order in which the finished cells are always a study of fewer models.

    Parameters
    ----------
    columns : int, optional
        Number of columns. None compares the rows with each other, in one triangle if the matrix is symmetric.
    """
    if columns is not None:
        yield from ((i, j) for i in range(rows) for j in range(columns))
        return
    both = not is_mirrored(options)
    for new in range(1, rows):
        for old in range(new):
            yield old, new
            if both:
                yield new, old


def cell_key(options: ScoringOptions, digest_a: str, digest_b: str) -> str:
    """Return the key of a cell, a hash of everything that its scores depend on.

    Parameters
    ----------
    digest_a, digest_b : digests of the two sets
    """
    dumped = options.model_copy(update={"metadata": {}, "memory_budget_bytes": None}).model_dump_json()
    return sha256(f"{CELL_VERSION} {dumped} {digest_a} {digest_b}".encode()).hexdigest()
