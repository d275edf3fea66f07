"""Request for an alignment: sides, layers, preparation, null distribution, interval and metrics."""

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
    as_list,
)
from consilience.contract.extraction import EXTRACTION_FIELDS, Extraction
from consilience.contract.kernel_metrics import Cka
from consilience.contract.metrics import MetricChoice
from consilience.contract.neighbour_metrics import MutualKnn
from consilience.contract.search import BuilderChoice, EstimateChoice, GalleryChoice
from consilience.contract.webhooks import WebhookChoice

#: Id of an item or label of a group; an integer stands for its decimal digits.
ItemLabel = Annotated[str, Field(min_length=1, max_length=LABEL_LENGTH)] | Annotated[int, Field(strict=True)]


class Side(Request):
    """One side of a comparison: a stored embedding set, or vectors in the request."""

    embedding: EmbeddingId | None = Field(default=None, description="Id of a stored embedding set.")
    vectors: list[list[Finite]] | None = Field(
        default=None, description="Inline vectors: n rows of d numbers. Large sets must be uploaded first."
    )
    ids: list[ItemLabel] | None = Field(default=None, description="Item ids of the `vectors`, one for each row.")
    groups: list[ItemLabel] | None = Field(
        default=None,
        description="Group labels of the `vectors`, one for each row. Rows of one group belong together, for example "
        "captions of one image.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.embedding is None) == (self.vectors is None):
            raise ValueError("a side needs exactly one of `embedding` and `vectors`")
        if self.embedding is not None and (self.ids is not None or self.groups is not None):
            raise ValueError("`ids` and `groups` are only allowed with `vectors`; a stored set has its own")
        return self


class ReferenceOrSide(Side):
    """Second side of a comparison: an embedding set, or a reference set whose members are compared in turn."""

    reference: ReferenceId | None = Field(
        default=None, description="Id of a reference set, instead of an embedding set."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.embedding, self.vectors, self.reference)) != 1:
            raise ValueError("a side needs exactly one of `embedding`, `vectors` and `reference`")
        if self.vectors is None and (self.ids is not None or self.groups is not None):
            raise ValueError("`ids` and `groups` are only allowed with `vectors`; a stored set has its own")
        return self


def _side_tag(value: object) -> str:
    """Return the tag of a side: computed by a model, or given."""
    if isinstance(value, dict):
        return "extraction" if value.keys() & EXTRACTION_FIELDS else "given"
    return "extraction" if isinstance(value, Extraction) else "given"


#: Side a: given, or computed by a model before the comparison.
AnySide = Annotated[Annotated[Side, Tag("given")] | Annotated[Extraction, Tag("extraction")], Discriminator(_side_tag)]


#: Side b, likewise; it can be a reference set too.
AnyReferenceOrSide = Annotated[
    Annotated[ReferenceOrSide, Tag("given")] | Annotated[Extraction, Tag("extraction")], Discriminator(_side_tag)
]


class Layers(Request):
    """Layers of each side to compare."""

    a: LayerChoice = Field(default="last", description="Layers of a: `last`, `all` or a list of names.")
    b: LayerChoice = Field(default="last", description="Layers of b: `last`, `all` or a list of names.")


def _both_sides(value: object) -> object:
    """Use one choice for both sides."""
    return {"a": value, "b": value} if isinstance(value, str | list | tuple) else value


Profile = Literal["none", "l2", "centre_l2", "prh", "prh_exact"]


class Preparation(Request):
    """Preprocessing of the rows.

    `none` changes nothing. `l2` scales each row to length 1. `centre_l2` subtracts the mean row, then applies `l2`.
    `prh` clamps every value to the mean, over rows, of the row's quantile of absolute values, then applies `l2`.
    `prh_exact` clamps to the quantile of all absolute values, then applies `l2`.
    """

    profile: Profile = Field(default="l2", description="Name of the profile.")
    clamp_quantile: Annotated[float, Field(gt=0.5, le=1.0)] = Field(
        default=0.95, description="Quantile of the absolute values at which `prh` and `prh_exact` clamp."
    )
    clamp_scope: Literal["model", "layer"] = Field(
        default="model",
        description="Values that give the clamping threshold: all layers of the `model`, or each `layer` alone.",
    )


def _name_to_profile(value: object) -> object:
    """Replace the name of a profile by the profile with its defaults."""
    return {"profile": value} if isinstance(value, str) else value


NullMethodChoice = Literal["auto", "analytic", "permutation", "none"]


class NullChoice(Request):
    """Options of the null distribution."""

    method: NullMethodChoice = Field(
        default="auto",
        description="Method: `analytic` uses a closed form, `permutation` permutes the pairing of rows, `none` computes "
        "no null distribution, and `auto` is `analytic` if the metric has a closed form and `permutation` "
        "otherwise.",
    )
    permutations: Annotated[int, Field(strict=True, ge=20, le=100_000)] = Field(
        default=200, description="Number of permutations."
    )
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        default=0.05, description="Significance level of the threshold."
    )
    correction: Literal["none", "holm", "benjamini_hochberg"] = Field(
        default="none", description="Correction of the p-values over all scores of the document."
    )


def _name_to_null(value: object) -> object:
    """Replace the name of a method by its options with their defaults."""
    return {"method": value} if isinstance(value, str) else value


class IntervalChoice(Request):
    """Options of the confidence interval.

    `population` treats the items as a sample from a population. `gallery` is an interval for the exact score of these
    items, which a sample of query rows estimates.
    """

    level: Level = Field(default=0.95, description="Confidence level.")
    target: Literal["auto", "population", "gallery"] = Field(
        default="auto",
        description="Quantity that the interval is for; `auto` is `population` for exact scores and `gallery` for "
        "estimated ones.",
    )


MetricChoices = Annotated[
    tuple[MetricChoice, ...],
    BeforeValidator(as_list, json_schema_input_type=MetricChoice | tuple[MetricChoice, ...]),
    Field(min_length=1, max_length=32),
]


#: Minimum memory budget of a job; its process alone takes about 200 MB.
MEMORY_BUDGET_MIN_BYTES = 512_000_000


#: Reductions of the grid of layer pairs to one value.
Aggregate = Literal["max", "row_max_mean", "column_max_mean", "top_k_mean", "hungarian_mean"]


class ScoringOptions(Request):
    """Options of an alignment. Every field has a default."""

    metrics: MetricChoices = Field(
        default=(MutualKnn(), Cka()),
        description="Metrics to compute: a name, an object with options, or a list of these. `GET /v1/metrics` lists all "
        "metrics.",
    )
    layers: Annotated[Layers, BeforeValidator(_both_sides, json_schema_input_type=LayerChoice | Layers)] = Field(
        default=Layers(),
        description="Layers to compare: `last`, `all` or a list of names, for both sides or for each side. Every layer of "
        "a is compared with every layer of b.",
    )
    aggregate: Aggregate = Field(
        default="max",
        description="Reduction of the grid of layer pairs to one value. `max`: the best pair. `row_max_mean`: mean over "
        "the layers of a of their best match. `column_max_mean`: the same over the layers of b. `top_k_mean`: "
        "mean of the `top_k` best pairs. `hungarian_mean`: mean over the optimal one-to-one assignment of "
        "layers.",
    )
    top_k: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        default=5, description="Number of layer pairs that `top_k_mean` averages."
    )
    concat: bool = Field(
        default=False, description="Whether to add the concatenation of all layers as one more layer, named `concat`."
    )
    preparation: Annotated[
        Preparation,
        BeforeValidator(_name_to_profile, json_schema_input_type=Profile | Preparation),
    ] = Field(
        default=Preparation(), description="Preprocessing of the rows: a profile name, or an object with its options."
    )
    null: Annotated[
        NullChoice, BeforeValidator(_name_to_null, json_schema_input_type=NullMethodChoice | NullChoice)
    ] = Field(
        default=NullChoice(),
        description="Null distribution for p-values and thresholds: a method name, or an object with its options.",
    )
    interval: IntervalChoice | None = Field(
        default=IntervalChoice(), description="Confidence interval of each score; null computes none."
    )
    estimate: EstimateChoice = Field(
        default="all",
        description="Query rows of neighbour metrics: `all`, or an object that sets their number or the target half-width "
        "of the interval.",
    )
    builder: BuilderChoice = Field(
        default="auto",
        description="Search method for nearest neighbours: the name of an exact method, or an object that describes an "
        "approximate FAISS index.",
    )
    gallery_sizes: GalleryChoice | None = Field(
        default=None,
        description="Gallery sizes at which every neighbour metric is also computed for its best layer pair: `auto` "
        "(1000, 3000, 10000, ... up to all rows) or a list. Null computes no curve.",
    )
    memory_budget_bytes: Annotated[int, Field(strict=True, ge=MEMORY_BUDGET_MIN_BYTES)] | None = Field(
        default=None,
        description="Peak memory that the job may use, in bytes. The default and the maximum are the operator's limit.",
    )
    pairing: Literal["row", "id"] = Field(
        default="row", description="Matching of rows: `row` by position, `id` by item id."
    )
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = Field(
        default=0, description="Seed of all random choices."
    )
    metadata: Metadata = Field(default={})


class JobOptions(ScoringOptions):
    """Options of an alignment job."""

    webhook: WebhookChoice | None = Field(default=None, description="Receiver of a notification when the job ends.")


class AlignmentRequest(JobOptions):
    """Request for the alignment scores of two embedding sets, `a` and `b`."""

    a: AnySide = Field(description="First embedding set: a stored set, inline vectors, or a model and a dataset.")
    b: AnyReferenceOrSide = Field(
        description="Second embedding set, or a reference set whose members `a` is compared with."
    )

    @property
    def extractions(self) -> tuple[Extraction, ...]:
        """Sides that a model computes."""
        return tuple(side for side in (self.a, self.b) if isinstance(side, Extraction))


class FormOptions(JobOptions):
    """Options in the part `request` of a form whose part `a` is a file."""

    b: ReferenceOrSide | None = Field(
        default=None, description="Stored set or reference set to use instead of the file `b`."
    )
