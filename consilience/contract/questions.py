"""What a study can be asked about its models: trends, factors, differences."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from consilience.contract.base import Finite, Level, Request

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
