"""Base classes of metrics, with the properties that every metric declares."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field

from consilience.contract.base import Request, as_list

Direction = Literal["similarity", "distance"]
NullMethod = Literal["analytic", "bonferroni", "permutation", "none"]
#: Number of neighbours of each row; the maximum is that of cached graphs.
K = Annotated[int, Field(strict=True, ge=1, le=10_000)]
KSweep = Annotated[
    tuple[K, ...],
    BeforeValidator(as_list, json_schema_input_type=K | tuple[K, ...]),
    Field(min_length=1, max_length=64),
]
PairDirection = Literal["ab", "ba", "mean"]


class Metric(Request):
    """Base class of metrics: class variables describe the metric, fields are its options."""

    title: ClassVar[str]
    #: Meaning of the value, in one sentence.
    summary: ClassVar[str]
    formula: ClassVar[str]
    #: Whether agreement is a large value or a small one (`direction` in the catalogue).
    score_direction: ClassVar[Direction] = "similarity"
    symmetric: ClassVar[bool] = True
    #: Smallest and largest possible value; None if there is no bound.
    low: ClassVar[float | None] = 0.0
    high: ClassVar[float | None] = 1.0
    #: Expected value if the rows are paired at random, in words.
    chance: ClassVar[str] = "estimated by permutation"
    #: Whether a distance obeys the triangle inequality.
    triangle: ClassVar[bool] = False
    #: Methods for the null distribution; the first is the default.
    nulls: ClassVar[tuple[NullMethod, ...]] = ("permutation",)
    #: Whether rotating or scaling one side keeps the value, for rows of length 1.
    rotation_invariant: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    cost: ClassVar[str]
    #: Kind of work for planning: passes over the features, over all pairs of rows, or fits.
    work: ClassVar[Literal["features", "pairs", "fit"]] = "features"
    reference: ClassVar[str]

    metric: str

    def each(self) -> Iterator[Self]:
        """Yield one metric for each value of `k`, in order."""
        yield self

    def options(self) -> dict[str, Any]:
        """Return the options without the name of the metric."""
        return self.model_dump(exclude={"metric"})

    @property
    def work_kind(self) -> str:
        """Kind of work with these options."""
        return self.work

    @property
    def is_symmetric(self) -> bool:
        """True if swapping the sides keeps the value, with these options."""
        return self.symmetric

    @property
    def is_rotation_invariant(self) -> bool:
        """True if rotating one side keeps the value, with these options."""
        return self.rotation_invariant

    @property
    def ceiling(self) -> float | None:
        """Largest possible value with these options."""
        return self.high


class NeighbourMetric(Metric):
    """Base class of metrics of neighbour graphs, with k neighbours for each row; a list gives one score for each k."""

    cost = "one exact search a layer, O(n^2 d); then O(n k) to O(n k^2) a pair of layers"
    #: Whether the cost of a row is k^2 steps instead of k.
    k_squared: ClassVar[bool] = False
    #: Whether the score of a row also needs the neighbours of its neighbours.
    returns: ClassVar[bool] = False

    k: KSweep = Field(
        default=(10,),
        description="Number of nearest neighbours of each row: one number, or a list that gives one score for each "
        "number.",
    )

    def each(self) -> Iterator[Self]:
        """Yield one metric for each k."""
        for k in self.k:
            yield self.model_copy(update={"k": (k,)})

    def options(self) -> dict[str, Any]:
        """Return the options; a single k is a number."""
        return super().options() | {"k": self.k[0] if len(self.k) == 1 else list(self.k)}
