"""The request for an alignment: sides, layers, preparation, null, interval, metrics."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from consilience.contract.base import (
    LABEL_LENGTH,
    EmbeddingId,
    Finite,
    LayerChoice,
    Level,
    Metadata,
    ReferenceId,
    Request,
    as_many,
)
from consilience.contract.extraction import WISHED, Extraction
from consilience.contract.kernel_metrics import Cka
from consilience.contract.metrics import MetricChoice
from consilience.contract.neighbour_metrics import MutualKnn
from consilience.contract.search import BuilderChoice, EstimateChoice, GalleryChoice
from consilience.contract.webhooks import WebhookChoice

#: An item's or a group's name; an integer stands for its decimal digits.
Label = Annotated[str, Field(min_length=1, max_length=LABEL_LENGTH)] | Annotated[int, Field(strict=True)]


class Side(Request):
    """One side of a comparison: a stored set by id, or a few vectors in the request itself."""

    embedding: EmbeddingId | None = None
    vectors: list[list[Finite]] | None = Field(default=None, description="n rows of d numbers; for small sets")
    ids: list[Label] | None = Field(default=None, description="beside vectors: which item each row is, n of them")
    groups: list[Label] | None = Field(
        default=None, description="beside vectors: which rows belong together, such as captions of one image"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.embedding is None) == (self.vectors is None):
            raise ValueError("give exactly one of `embedding` and `vectors`")
        if self.embedding is not None and (self.ids is not None or self.groups is not None):
            raise ValueError("`ids` and `groups` stand beside `vectors`; a stored set has its own")
        return self


class OtherSide(Side):
    """The other side of a comparison: a side, or each member of a reference set in turn."""

    reference: ReferenceId | None = Field(default=None, description="instead: a reference set, by id")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.embedding, self.vectors, self.reference)) != 1:
            raise ValueError("give exactly one of `embedding`, `vectors` and `reference`")
        if self.vectors is None and (self.ids is not None or self.groups is not None):
            raise ValueError("`ids` and `groups` stand beside `vectors`; a stored set has its own")
        return self


def _way(value: object) -> str:
    """How a side comes about."""
    if isinstance(value, dict):
        return "made" if value.keys() & WISHED else "given"
    return "made" if isinstance(value, Extraction) else "given"


#: One side: given, or made by a model before the comparison.
AnySide = Annotated[Annotated[Side, Tag("given")] | Annotated[Extraction, Tag("made")], Discriminator(_way)]


#: The other one, likewise.
AnyOther = Annotated[Annotated[OtherSide, Tag("given")] | Annotated[Extraction, Tag("made")], Discriminator(_way)]


class Layers(Request):
    """Which layers of each side take part."""

    a: LayerChoice = "last"
    b: LayerChoice = "last"


def _both_sides(value: object) -> object:
    """One choice stands for both sides."""
    return {"a": value, "b": value} if isinstance(value, str | list | tuple) else value


Profile = Literal["none", "l2", "centre_l2", "prh", "prh_exact"]


class Preparation(Request):
    """What is done to the rows first.

    none: nothing. l2: rows scaled to length 1. centre_l2: the mean row subtracted, then l2. prh: every value clamped to the
    mean of the rows' quantiles of absolute values, then l2. prh_exact: clamped to the quantile of all values, then l2.
    """

    profile: Profile = "l2"
    clamp_quantile: Annotated[float, Field(gt=0.5, le=1.0)] = 0.95
    clamp_scope: Literal["model", "layer"] = "model"


def _profile(value: object) -> object:
    """A bare name stands for the profile with its defaults."""
    return {"profile": value} if isinstance(value, str) else value


NullWord = Literal["auto", "analytic", "permutation", "none"]


class NullChoice(Request):
    """How the chance level is found. `auto`: the closed form where there is one, else permutation."""

    method: NullWord = "auto"
    draws: Annotated[int, Field(strict=True, ge=20, le=100_000)] = 200
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    correction: Literal["none", "holm", "benjamini_hochberg"] = Field(
        default="none", description="of the p-values over all scores of the document"
    )


def _null(value: object) -> object:
    """A bare method stands for itself with its defaults."""
    return {"method": value} if isinstance(value, str) else value


class IntervalChoice(Request):
    """Which interval is wanted.

    population: as if the items were drawn anew. gallery: the score of these very items, of which some were asked.
    """

    level: Level = 0.95
    target: Literal["auto", "population", "gallery"] = Field(
        default="auto", description="auto: population for an exact score, gallery for an estimated one"
    )


MetricChoices = Annotated[
    tuple[MetricChoice, ...],
    BeforeValidator(as_many, json_schema_input_type=MetricChoice | tuple[MetricChoice, ...]),
    Field(min_length=1, max_length=32),
]


#: The least budget that a job can be planned with: its process alone takes about 200 MB.
MEMORY_BUDGET_MIN_BYTES = 512_000_000


#: How a grid of layer pairs becomes one number.
Aggregate = Literal["max", "row_max_mean", "column_max_mean", "top_k_mean", "hungarian_mean"]


class ScoringOptions(Request):
    """Everything of an alignment but its two sides; every field has a default."""

    metrics: MetricChoices = (MutualKnn(), Cka())
    layers: Annotated[Layers, BeforeValidator(_both_sides, json_schema_input_type=LayerChoice | Layers)] = Layers()
    aggregate: Aggregate = "max"
    top_k: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        default=5, description="pairs that top_k_mean averages"
    )
    concat: bool = Field(default=False, description="add all layers side by side as one more layer, `concat`")
    preparation: Annotated[
        Preparation,
        BeforeValidator(_profile, json_schema_input_type=Profile | Preparation),
    ] = Preparation()
    null: Annotated[NullChoice, BeforeValidator(_null, json_schema_input_type=NullWord | NullChoice)] = NullChoice()
    interval: IntervalChoice | None = IntervalChoice()
    estimate: EstimateChoice = "all"
    builder: BuilderChoice = "auto"
    gallery_sizes: GalleryChoice | None = Field(
        default=None,
        description="also score galleries of fewer rows: a curve for every neighbour score, of its best layer pair",
    )
    memory_budget_bytes: Annotated[int, Field(strict=True, ge=MEMORY_BUDGET_MIN_BYTES)] | None = Field(
        default=None, description="peak memory that the job may plan with; null, and at most: the operator's limit"
    )
    pairing: Literal["row", "id"] = "row"
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    metadata: Metadata = Field(default={})


class JobOptions(ScoringOptions):
    """The options, and what concerns the job and not its scores."""

    webhook: WebhookChoice | None = Field(default=None, description="where the end of the job is told")


class AlignmentRequest(JobOptions):
    """The question how far the spaces of `a` and `b` agree."""

    a: AnySide
    b: AnyOther

    @property
    def made(self) -> tuple[Extraction, ...]:
        """The sides that a model makes."""
        return tuple(side for side in (self.a, self.b) if isinstance(side, Extraction))


class FormOptions(JobOptions):
    """The part `request` of a form whose part `a` is a file."""

    b: OtherSide | None = Field(default=None, description="instead of the file `b`: a stored set or a reference set")
