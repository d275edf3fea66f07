"""Studies: what is asked of many models at once."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from consilience.contract.alignments import JobOptions, ScoringOptions, Side
from consilience.contract.base import Finite, Level, Metadata, Name, Request

#: A number of each model: a key of its metadata, or `width` (columns of its widest layer that takes part) or `depth` (how many
#: layers it has).
Quantity = Annotated[str, Field(min_length=1, max_length=128)]
BUILT_IN: tuple[str, ...] = ("width", "depth")
Which = Literal["rows", "columns"]
Label = Annotated[str, Field(min_length=1, max_length=128)]


class Trend(Request):
    """The question whether alignment rises with a number of the models."""

    by: Quantity = Field(description="a key of the models' metadata, or `width` or `depth`")
    of: Which = "rows"
    against: Label | None = Field(
        default=None, description="one model of the other side; null: the mean over all models of the other side"
    )
    value: Literal["score", "calibrated"] = "score"
    covariates: Annotated[tuple[Quantity, ...], Field(max_length=4)] = Field(
        default=(), description="held fixed by a partial correlation, such as `width`"
    )
    bins: (
        Annotated[int, Field(strict=True, ge=2, le=64)] | Annotated[tuple[Finite, ...], Field(min_length=2)] | None
    ) = Field(default=None, description="how many bins, of as many models each as can be; or their edges, rising")
    level: Level = 0.95

    @model_validator(mode="after")
    def _edges_rise(self) -> Self:
        edges = self.bins if isinstance(self.bins, tuple) else ()
        if any(high <= low for low, high in pairwise(edges)):
            raise ValueError("the edges of bins must rise")
        return self


class Factor(Request):
    """The question whether alignment rises from level to level of a factor, such as the length of a caption."""

    by: Quantity = Field(description="the key of the models' metadata that holds the level, a number")
    of: Which = "rows"
    within: Quantity | None = Field(
        default=None, description="a key that tells series apart, such as the text model; each has every level once"
    )
    value: Literal["score", "calibrated"] = "score"
    alternative: Literal["rising", "falling", "either"] = "rising"
    independent: bool = Field(
        default=False, description="whether no two series share a set; then the test is Page's, else all move together"
    )


class Difference(Request):
    """The question which of two models is nearer to a reference, and how sure that is."""

    first: Label
    second: Label
    reference: Label
    level: Level = 0.95


#: Members of one side; what a study costs is limited by its cells besides.
MEMBERS_MAX = 512
#: Raised when a cell of the same sets and options would say something else.
CELL_VERSION = 1


class Member(Side):
    """One model of a study: a side as alignments have it, what it is called, and what is known of it."""

    label: Name | None = Field(default=None, description="what the study calls it; by default the set's name")
    metadata: Metadata = Field(default={}, description="added to the set's own metadata, and stronger")


Members = Annotated[tuple[Member, ...], Field(min_length=1, max_length=MEMBERS_MAX)]


class StudyOptions(JobOptions):
    """Everything of a study but its members."""

    trends: Annotated[tuple[Trend, ...], Field(max_length=32)] = ()
    factors: Annotated[tuple[Factor, ...], Field(max_length=32)] = ()
    differences: Annotated[tuple[Difference, ...], Field(max_length=256)] = ()
    umap: bool = Field(default=False, description="also place the models by UMAP; needs the extra `studies`")

    @model_validator(mode="after")
    def _of_a_study(self) -> Self:
        if self.null.correction != "none":
            raise ValueError("a study corrects over its cells, by both methods: leave out `null.correction`")
        if self.gallery_sizes is not None:
            raise ValueError("a study has no gallery-size curves: leave out `gallery_sizes`")
        return self

    def scoring(self) -> ScoringOptions:
        """What each cell is scored with."""
        return ScoringOptions.model_validate({name: getattr(self, name) for name in ScoringOptions.model_fields})


class StudyRequest(StudyOptions):
    """The question how far many spaces agree: rows against columns, or all rows with each other."""

    rows: Members
    columns: Members | None = Field(default=None, description="null: the rows are compared with each other")

    @model_validator(mode="after")
    def _more_than_one(self) -> Self:
        if self.columns is None and len(self.rows) < 2:
            raise ValueError("a study needs two models at least: a study of one has no cell")
        if self.columns is None and self.layers.a != self.layers.b:
            raise ValueError("models that are compared with each other take part with the same choice of layers")
        return self

    @property
    def square(self) -> bool:
        """Whether the rows are compared with each other."""
        return self.columns is None

    def cells(self) -> Iterator[tuple[int, int]]:
        """Every cell that is scored, as numbers of its row and column, in the order of work."""
        return order_cells(self, len(self.rows), None if self.columns is None else len(self.columns))


class MoreModels(Request):
    """Models to add to a study."""

    rows: Members | None = None
    columns: Members | None = Field(default=None, description="of a study of rows against columns alone")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.rows is None and self.columns is None:
            raise ValueError("name the models to add: `rows`, `columns` or both")
        return self


def is_mirrored(options: ScoringOptions) -> bool:
    """Whether one triangle says all of models that are compared with each other."""
    sided = options.aggregate in ("row_max_mean", "column_max_mean")
    return not sided and all(metric.is_symmetric for metric in options.metrics)


def order_cells(options: ScoringOptions, rows: int, columns: int | None) -> Iterator[tuple[int, int]]:
    """Every cell that is scored, in the order of work: what is done at any moment is a study of fewer models.

    Parameters
    ----------
    columns : int, optional
        None: the rows are compared with each other, in one triangle where that says all.
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
    """The address of a cell: what its scores depend on, and nothing else.

    Parameters
    ----------
    digest_a, digest_b : digests of the two sets
    """
    dumped = options.model_copy(update={"metadata": {}, "memory_budget_bytes": None}).model_dump_json()
    return sha256(f"{CELL_VERSION} {dumped} {digest_a} {digest_b}".encode()).hexdigest()
