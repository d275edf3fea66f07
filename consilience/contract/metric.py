"""What every metric declares about itself, and the options that several share."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field

from consilience.contract.base import Request, as_list

Direction = Literal["similarity", "distance"]
NullMethod = Literal["analytic", "bonferroni", "permutation", "none"]
#: Neighbours per row; the upper bound is that of the graphs kept.
K = Annotated[int, Field(strict=True, ge=1, le=10_000)]
KSweep = Annotated[
    tuple[K, ...],
    BeforeValidator(as_list, json_schema_input_type=K | tuple[K, ...]),
    Field(min_length=1, max_length=64),
]
PairDirection = Literal["ab", "ba", "mean"]


class Metric(Request):
    """What every metric declares about itself."""

    title: ClassVar[str]
    #: One sentence: what the number says.
    summary: ClassVar[str]
    formula: ClassVar[str]
    #: Whether more agreement is a larger or a smaller number (`direction` on the wire).
    score_direction: ClassVar[Direction] = "similarity"
    symmetric: ClassVar[bool] = True
    #: The least and the largest value; None where there is no bound.
    low: ClassVar[float | None] = 0.0
    high: ClassVar[float | None] = 1.0
    #: The value expected when the pairing is random, in words.
    chance: ClassVar[str] = "found by permutation"
    #: Whether a distance obeys the triangle inequality.
    triangle: ClassVar[bool] = False
    #: How its chance level can be had, the default first.
    nulls: ClassVar[tuple[NullMethod, ...]] = ("permutation",)
    #: Whether rotating or scaling one side leaves the value, rows scaled to length 1.
    rotation_invariant: ClassVar[bool] = True
    scale_invariant: ClassVar[bool] = True
    cost: ClassVar[str]
    #: What the cost is made of, for planning: passes over the features, over all pairs of rows, or fits.
    work: ClassVar[Literal["features", "pairs", "fit"]] = "features"
    reference: ClassVar[str]

    metric: str

    def each(self) -> Iterator[Self]:
        """One metric for each value of a swept option (`k`), in the order given."""
        yield self

    def options(self) -> dict[str, Any]:
        """The options in force, without the name."""
        return self.model_dump(exclude={"metric"})

    @property
    def work_kind(self) -> str:
        """The kind of work under the options in force."""
        return self.work

    @property
    def is_symmetric(self) -> bool:
        """Whether swapping the sides leaves the value, under the options in force."""
        return self.symmetric

    @property
    def is_rotation_invariant(self) -> bool:
        """Whether rotating one side leaves the value, under the options in force."""
        return self.rotation_invariant

    @property
    def ceiling(self) -> float | None:
        """The largest value under the options in force."""
        return self.high


class NeighbourMetric(Metric):
    """A metric of neighbour graphs: k neighbours per row, one number or a list that gives one entry each."""

    cost = "one exact search a layer, O(n^2 d); then O(n k) to O(n k^2) a pair of layers"
    #: Whether a row costs k^2 steps and not k.
    k_squared: ClassVar[bool] = False
    #: Whether a row's score needs the lists of its neighbours too.
    returns: ClassVar[bool] = False

    k: KSweep = Field(
        default=(10,),
        description="Number of nearest neighbours of each row: one number, or a list that gives one score for each "
        "number.",
    )

    def each(self) -> Iterator[Self]:
        """One metric for each k."""
        for k in self.k:
            yield self.model_copy(update={"k": (k,)})

    def options(self) -> dict[str, Any]:
        """A single k as a number, and the other options."""
        return super().options() | {"k": self.k[0] if len(self.k) == 1 else list(self.k)}
