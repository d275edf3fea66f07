"""Maps from one embedding space to another, and their evaluation on held-out rows."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from consilience.contract.base import (
    Digest,
    Document,
    EmbeddingId,
    Finite,
    Level,
    MapId,
    Metadata,
    Name,
    Request,
    Share,
    Timestamp,
    as_list,
)
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.keys import DEFAULT_OWNER
from consilience.contract.scores import Pairing
from consilience.contract.webhooks import WebhookChoice

#: Maximum width of a hidden layer, and maximum rank.
WIDTH_MAX = 65_536
#: Maximum number of anchors; the fit decomposes a matrix of anchors by anchors.
ANCHORS_MAX = 8192
Width = Annotated[int, Field(strict=True, ge=1, le=WIDTH_MAX)]
Penalty = Annotated[
    Literal["auto"] | Annotated[float, Field(gt=0.0, allow_inf_nan=False)],
    Field(
        description="Penalty in units of the mean variance; `auto` chooses the best of 13 values by five-fold cross-validation "
        "on the training rows."
    ),
]


class ProcrustesMap(Request):
    """Best rotation, with an optional scale factor and translation.

    y = s (x - mean_a) R + mean_b. If the two dimensions differ, R is a part of a rotation matrix: its rows or columns,
    whichever are fewer, are orthonormal.
    """

    kind: Literal["procrustes"] = "procrustes"
    scale: bool = Field(default=True, strict=True, description="Whether to fit one scale factor for all dimensions.")
    translation: bool = Field(
        default=True,
        strict=True,
        description="Whether to map the mean of a to the mean of b; without translation, 0 is mapped to 0.",
    )


class RidgeMap(Request):
    """Best affine map with a penalty on its weights: y = (x - mean_a) W + mean_b."""

    kind: Literal["ridge"] = "ridge"
    penalty: Penalty = "auto"


class LowRankMap(Request):
    """Best affine map of limited rank: ridge regression truncated to the leading directions of its predictions."""

    kind: Literal["low_rank"] = "low_rank"
    rank: Width = Field(default=64, description="Rank of the map.")
    penalty: Penalty = "auto"


class RelativeMap(Request):
    """Relative representation: rows are described by their similarities to anchor rows of the training data.

    y = mean_b + s (x - mean_a) A' (B B' + l I)^-1 B, with A and B the centred anchor rows of both sides. The values of s
    and l minimise the error on the training rows.
    """

    kind: Literal["relative"] = "relative"
    anchors: Annotated[int, Field(strict=True, ge=1, le=ANCHORS_MAX)] = Field(
        default=256, description="Number of anchors, which are training rows sampled with the seed."
    )


class MlpMap(Request):
    """Two linear layers with a GELU between them, like the vision-language connector of LLaVA.

    The weights are trained with AdamW on the squared error. A tenth of the training rows is kept for validation;
    training stops when the validation error no longer improves, and the best weights are kept.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: Width | None = Field(
        default=None, description="Width of the hidden layer; null uses the number of columns of b."
    )
    epochs: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        default=200, description="Maximum number of epochs."
    )
    patience: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        default=10, description="Number of epochs without improvement after which training stops."
    )
    batch: Annotated[int, Field(strict=True, ge=1, le=65_536)] = Field(
        default=256, description="Number of rows in a batch."
    )
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = Field(default=1e-3, description="Learning rate of AdamW.")


LinearChoice = ProcrustesMap | RidgeMap | LowRankMap | RelativeMap
MapChoice = Annotated[LinearChoice | MlpMap, Field(discriminator="kind")]
MapKind = Literal["procrustes", "ridge", "low_rank", "relative", "mlp"]
MAPS: dict[str, type[Request]] = {
    "procrustes": ProcrustesMap,
    "ridge": RidgeMap,
    "low_rank": LowRankMap,
    "relative": RelativeMap,
    "mlp": MlpMap,
}


def _kind(value: object) -> object:
    """Replace the name of a map by the map with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


class MapLayers(Request):
    """Layer of each side to map: `last` or a layer name."""

    a: str = "last"
    b: str = "last"


def _both_sides(value: object) -> object:
    """Use one name for both sides."""
    return {"a": value, "b": value} if isinstance(value, str) else value


MapPreparation = Literal["none", "l2"]
#: Values of k of recall at k.
RecallAt = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, le=10_000)], ...],
    BeforeValidator(as_list, json_schema_input_type=int | tuple[int, ...]),
    Field(min_length=1, max_length=16),
]


class MapSource(Request):
    """One side of a map: a stored embedding set."""

    embedding: EmbeddingId = Field(description="Id of the embedding set.")


class MapOptions(Request):
    """Options of a map. Every field has a default."""

    map: Annotated[MapChoice, BeforeValidator(_kind, json_schema_input_type=MapKind | MapChoice)] = Field(
        default=RidgeMap(), description="Kind of map: a name, or an object with its options."
    )
    layers: Annotated[MapLayers, BeforeValidator(_both_sides, json_schema_input_type=str | MapLayers)] = Field(
        default=MapLayers(), description="Layer of each side to map: one name for both sides, or one for each."
    )
    preparation: MapPreparation = Field(
        default="l2",
        description="Preprocessing of the rows: `l2` scales the rows of both sides to length 1 before fitting and before "
        "applying the map.",
    )
    pairing: Literal["row", "id"] = Field(
        default="row", description="Matching of rows: `row` by position, `id` by item id."
    )
    test_share: Annotated[float, Field(gt=0.0, le=0.5)] = Field(
        default=0.2, description="Share of the rows that is held out to evaluate the map; groups are kept together."
    )
    max_queries: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = Field(
        default=4096,
        description="Maximum number of held-out rows used as queries; every held-out row is in the gallery.",
    )
    recall_at: RecallAt = Field(default=(1, 5, 10), description="Values of k for which recall at k is reported.")
    level: Level = Field(default=0.95, description="Level of the confidence intervals.")
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = Field(
        default=0, description="Seed of all random choices."
    )
    metadata: Metadata = Field(default={})


class MapRequest(MapOptions):
    """Request for a map from the space of `a` to the space of `b`, two stored sets."""

    a: MapSource = Field(description="Stored set whose space the map starts from.")
    b: MapSource = Field(description="Stored set whose space the map leads to.")
    name: Name | None = Field(
        default=None,
        description="Label of the map; null builds one from the kind of map and the names of the two sets.",
    )
    webhook: WebhookChoice | None = Field(default=None, description="Receiver of a notification when the job ends.")


class TranslationRequest(Request):
    """Request to translate a stored set, or a few vectors, with a map."""

    embedding: EmbeddingId | None = Field(
        default=None, description="Id of a stored set; a job translates it into a new set."
    )
    layer: str = Field(default="last", description="Layer of the stored set to translate.")
    vectors: list[list[Finite]] | None = Field(
        default=None, description="Inline vectors: m rows of d numbers. The response contains their translations."
    )
    model: str | None = Field(
        default=None,
        description="Model that produced the vectors; the request fails if the map was fitted on another model.",
    )
    name: Name | None = Field(
        default=None, description="Label of the new set; null builds one from the names of the set and the map."
    )
    webhook: WebhookChoice | None = Field(default=None, description="Receiver of a notification when the job ends.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.embedding is None) == (self.vectors is None):
            raise ValueError("a translation needs exactly one of `embedding` and `vectors`")
        if self.vectors is not None and (self.name is not None or self.webhook is not None):
            raise ValueError(
                "`name` and `webhook` are only allowed with `embedding`: inline vectors are translated at once, without a job"
            )
        return self


class MapSide(Document):
    """One of the two sides that a map was fitted on."""

    id: str | None
    """Id of the embedding set; null if the side was an array or a local file."""
    name: str
    layer: str
    dim: int
    """Number of columns."""
    digest: Digest
    """SHA-256 of the data type, shape and values of the layer as stored, in lower-case hexadecimal."""
    model: str | None = None
    """Model that produced the vectors; null if it is unknown."""


class MeanShare(Document):
    """Mean over the query rows with its confidence interval."""

    value: Share
    """Mean, between 0 and 1."""
    low: Share
    """Lower end of the interval."""
    high: Share
    """Upper end of the interval."""


class Retrieval(Document):
    """Retrieval of each row's counterpart among the held-out rows of the other side, by cosine similarity."""

    queries: int
    """Number of query rows."""
    gallery: int
    """Number of held-out rows in the gallery."""
    mean_rank: Finite
    """Mean rank of the counterpart: 1 if it is first for every query row."""
    mrr: MeanShare
    """Mean reciprocal rank of the counterpart."""
    recall: dict[int, MeanShare]
    """For each k, the share of query rows whose counterpart is among the first k results."""


class Evaluation(Document):
    """Quality of a map on held-out rows."""

    cosine: Finite
    """Mean cosine similarity between each translated row and its counterpart."""
    r2: Finite | None
    """Share of the variance of the held-out rows that the map predicts: at most 1, and below 0 if their mean predicts
    them better; null if they do not vary."""
    forward: Retrieval
    """Retrieval of the rows of b with translated rows of a as queries."""
    backward: Retrieval
    """Retrieval of translated rows of a with rows of b as queries."""


class ChanceLevel(Document):
    """Baseline without a map: the mean of b's training rows as every prediction, and random ranks."""

    cosine: Finite
    r2: Finite | None
    mean_rank: Finite
    mrr: Share
    recall: dict[int, Share]


class BestLinearMap(Document):
    """Linear map with the best cross-validation result on the training rows, evaluated on the same held-out rows."""

    kind: Literal["procrustes", "ridge"]
    penalty: Finite | None
    evaluation: Evaluation


class FitSummary(Document):
    """Quantities found by the fit besides the weights; null if the kind of map has no such quantity."""

    penalty: Finite | None = None
    """Penalty used, in units of the mean variance, or of the mean squared length of the anchors."""
    scale: Finite | None = None
    """Scale factor of a rotation or of a relative representation."""
    epochs: int | None = None
    """Epoch whose weights were kept."""
    epochs_run: int | None = None
    """Number of epochs that were run."""
    loss: Finite | None = None
    """Mean squared error of the best epoch on the validation rows, in units of b's mean variance."""


class MapDocument(Document):
    """Model card of a map: its kind, its training data and its quality. The header of the map's file contains it too."""

    schema_: Literal["consilience.map/1"] = Field(default="consilience.map/1", alias="schema")
    map: MapChoice
    preparation: MapPreparation
    a: MapSide
    b: MapSide
    n: int
    """Number of matched rows."""
    n_train: int
    """Number of rows that the map was fitted on."""
    n_test: int
    """Number of held-out rows that the map was evaluated on."""
    pairing: Pairing
    fitted: FitSummary
    evaluation: Evaluation
    best_linear: BestLinearMap
    chance: ChanceLevel
    level: Finite
    """Level of the confidence intervals."""
    seed: int
    digest: Digest
    """SHA-256 of the names, shapes and bytes of the weight tensors, in lower-case hexadecimal."""
    metadata: Metadata = Field(default={})
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    timings_s: dict[str, Finite]
    """Wall-clock time of each step, in seconds."""


class StoredMap(Document):
    """Map that the service stores."""

    id: MapId
    owner: str = DEFAULT_OWNER
    """Owner of the API key that requested the map; other owners cannot see it."""
    name: str
    model_card: MapDocument
    """Model card of the map."""
    bytes: int
    """Size of the weights, in bytes."""
    created_at: Timestamp
    links: dict[str, str]


class MapPage(Document):
    """Page of maps, newest first."""

    data: tuple[StoredMap, ...]
    has_more: bool
    next_cursor: str | None


class TranslatedVectors(Document):
    """Vectors translated into the space that a map leads to."""

    map: MapId
    """Id of the map."""
    vectors: tuple[tuple[Finite, ...], ...]
    """Translated rows, in the order of the request. They approximate b's preprocessed rows and are not rescaled."""


class TranslationDocument(Document):
    """Result of the translation of a stored set."""

    map: MapId
    """Id of the map."""
    source: EmbeddingId
    """Id of the set that was translated."""
    layer: str
    """Layer that was translated."""
    embedding: EmbeddingSet
    """New set with one layer and the ids and groups of the source."""
