"""Maps: from the vectors of one space to those of another, and how well they do on rows that they have not seen."""

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
    as_many,
)
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.keys import DEFAULT_OWNER
from consilience.contract.scores import Pairing
from consilience.contract.webhooks import WebhookChoice

#: Values of an inner layer, and of a rank, at most.
WIDTH_MAX = 65_536
#: A matrix of anchors by anchors is decomposed.
ANCHORS_MAX = 8192
Width = Annotated[int, Field(strict=True, ge=1, le=WIDTH_MAX)]
Penalty = Annotated[
    Literal["auto"] | Annotated[float, Field(gt=0.0, allow_inf_nan=False)],
    Field(
        description="in units of the mean variance; auto: the best of 13 by cross-validation over fifths of the training rows"
    ),
]


class Procrustes(Request):
    """The best rotation; with scale and translation where they are asked for.

    y = s (x - mean_a) R + mean_b. Where the dimensions differ, R is a part of a rotation: its shorter side is orthonormal.
    """

    kind: Literal["procrustes"] = "procrustes"
    scale: bool = Field(default=True, strict=True, description="one factor for all dimensions")
    translation: bool = Field(
        default=True, strict=True, description="the mean of a goes to the mean of b; without, 0 stays 0"
    )


class Ridge(Request):
    """The best affine map, its weights held small by a penalty: y = (x - mean_a) W + mean_b."""

    kind: Literal["ridge"] = "ridge"
    penalty: Penalty = "auto"


class LowRank(Request):
    """The best affine map of a limited rank: ridge regression cut to the leading directions of its predictions."""

    kind: Literal["low_rank"] = "low_rank"
    rank: Width = 64
    penalty: Penalty = "auto"


class Relative(Request):
    """The relative representation: what a row is to some training rows in a, made a row of b that is the same to theirs.

    y = mean_b + s (x - mean_a) A' (B B' + l I)^-1 B, A and B the anchors' centred rows; s and l have the least error on the
    training rows.
    """

    kind: Literal["relative"] = "relative"
    anchors: Annotated[int, Field(strict=True, ge=1, le=ANCHORS_MAX)] = Field(
        default=256, description="training rows that both spaces are told by, drawn by the seed"
    )


class Mlp(Request):
    """Two layers with a GELU between them, as LLaVA's connector from images to words has them.

    Trained by AdamW on the squared error; it stops when a tenth of the training rows, kept apart, no longer profits, and the
    best weights count.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: Width | None = Field(default=None, description="values between both layers; null: as many as b has")
    epochs: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(default=200, description="at most")
    patience: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        default=10, description="epochs without a better one after which it stops"
    )
    batch: Annotated[int, Field(strict=True, ge=1, le=65_536)] = 256
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3


LinearChoice = Procrustes | Ridge | LowRank | Relative
MapChoice = Annotated[LinearChoice | Mlp, Field(discriminator="kind")]
MapKind = Literal["procrustes", "ridge", "low_rank", "relative", "mlp"]
MAPS: dict[str, type[Request]] = {
    "procrustes": Procrustes,
    "ridge": Ridge,
    "low_rank": LowRank,
    "relative": Relative,
    "mlp": Mlp,
}


def _kind(value: object) -> object:
    """A bare name stands for the map with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


class MapLayers(Request):
    """Which layer of each side is mapped: `last`, or a name."""

    a: str = "last"
    b: str = "last"


def _both_sides(value: object) -> object:
    """One name stands for both sides."""
    return {"a": value, "b": value} if isinstance(value, str) else value


MapPreparation = Literal["none", "l2"]
#: Rows within which a vector's own must be found; recall is given for each.
RecallAt = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, le=10_000)], ...],
    BeforeValidator(as_many, json_schema_input_type=int | tuple[int, ...]),
    Field(min_length=1, max_length=16),
]


class MapSource(Request):
    """One side of a map: a stored set, by its id."""

    embedding: EmbeddingId


class MapOptions(Request):
    """Everything of a map but its two sides; every field has a default."""

    map: Annotated[MapChoice, BeforeValidator(_kind, json_schema_input_type=MapKind | MapChoice)] = Ridge()
    layers: Annotated[MapLayers, BeforeValidator(_both_sides, json_schema_input_type=str | MapLayers)] = MapLayers()
    preparation: MapPreparation = Field(
        default="l2", description="l2: rows of both sides scaled to length 1 first, also where the map is applied"
    )
    pairing: Literal["row", "id"] = "row"
    test_share: Annotated[float, Field(gt=0.0, le=0.5)] = Field(
        default=0.2, description="share of the rows, whole groups, on which the map is judged and which it never sees"
    )
    queries: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = Field(
        default=4096, description="held-out rows that look for their own, at most; they look among all held-out rows"
    )
    recall_at: RecallAt = (1, 5, 10)
    level: Level = Field(default=0.95, description="of the intervals")
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    metadata: Metadata = Field(default={})


class MapRequest(MapOptions):
    """The wish for a map from the space of `a` to that of `b`, which are stored sets."""

    a: MapSource
    b: MapSource
    name: Name | None = Field(default=None, description="the map's label; null: of the kind and both sets' names")
    webhook: WebhookChoice | None = Field(default=None, description="where the end of the job is told")


class TranslationRequest(Request):
    """The wish to have a stored set, or a few vectors, translated by a map."""

    embedding: EmbeddingId | None = Field(default=None, description="a job makes a new set of the translations")
    layer: str = Field(default="last", description="of the set: which layer is translated")
    vectors: list[list[Finite]] | None = Field(default=None, description="m rows of d numbers, answered at once")
    model: str | None = Field(
        default=None, description="whose vectors they are: another model than the map's is refused"
    )
    name: Name | None = Field(default=None, description="of the new set; null: of the set's name and the map's")
    webhook: WebhookChoice | None = Field(default=None, description="where the end of the job is told")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.embedding is None) == (self.vectors is None):
            raise ValueError("give exactly one of `embedding` and `vectors`")
        if self.vectors is not None and (self.name is not None or self.webhook is not None):
            raise ValueError("vectors are answered at once: `name` and `webhook` are for a set")
        return self


class MapSide(Document):
    """One side that a map was fitted on."""

    id: str | None
    """The embedding set's id; null where arrays or local files were fitted on."""
    name: str
    layer: str
    dim: int
    digest: Digest
    """Of the layer: SHA-256 over its dtype, shape and values, as the store has it."""
    model: str | None = None
    """The model whose vectors they are, where that was said."""


class MeanShare(Document):
    """A mean over the rows that asked, and where it would lie if they were drawn anew."""

    value: Share
    low: Share
    high: Share


class Retrieval(Document):
    """How well rows find their own among the held-out rows of the other side, by cosine."""

    queries: int
    """Held-out rows that asked."""
    gallery: int
    """Held-out rows that answered."""
    mean_rank: Finite
    """1 where every row finds its own first."""
    mrr: MeanShare
    """The mean of 1 / rank."""
    recall: dict[int, MeanShare]
    """For each k the share of rows whose own is among the first k."""


class Evaluation(Document):
    """How a map does on rows that it has not seen."""

    cosine: Finite
    """The mean cosine between a translated row and its own."""
    r2: Finite | None
    """The share of the rows' variance that is predicted; at most 1, below 0 where their mean alone is nearer; null where they
    do not vary."""
    forward: Retrieval
    """Translated rows of a look among the rows of b."""
    backward: Retrieval
    """Rows of b look among the translated rows of a."""


class Chance(Document):
    """What needs no map: the mean of b's training rows for every row, and ranks at random."""

    cosine: Finite
    r2: Finite | None
    mean_rank: Finite
    mrr: Share
    recall: dict[int, Share]


class BestLinear(Document):
    """The linear map that cross-validation over the training rows likes best, judged on the same held-out rows."""

    kind: Literal["procrustes", "ridge"]
    penalty: Finite | None
    evaluation: Evaluation


class Fitted(Document):
    """What the fit found beside the weights; null where a kind of map has no such thing."""

    penalty: Finite | None = None
    """The penalty in force, in units of the mean variance, or of the anchors' mean squared length."""
    scale: Finite | None = None
    """The factor of a rotation or of a relative representation."""
    epochs: int | None = None
    """Epochs of the weights that count."""
    epochs_run: int | None = None
    loss: Finite | None = None
    """Mean squared error of the best epoch on the rows kept apart from training, in units of b's mean variance."""


class MapDocument(Document):
    """A map's card: what it is, what it was fitted on, how well it does. It lies in the header of the map's file."""

    schema_: Literal["consilience.map/1"] = Field(default="consilience.map/1", alias="schema")
    map: MapChoice
    preparation: MapPreparation
    a: MapSide
    b: MapSide
    n: int
    n_train: int
    n_test: int
    pairing: Pairing
    fitted: Fitted
    evaluation: Evaluation
    best_linear: BestLinear
    chance: Chance
    level: Finite
    seed: int
    digest: Digest
    """Of the weights: SHA-256 over the tensors' names, shapes and bytes."""
    metadata: Metadata = Field(default={})
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    timings_s: dict[str, Finite]


class StoredMap(Document):
    """A map that the service keeps."""

    id: MapId
    owner: str = DEFAULT_OWNER
    """Whose key asked for it; others cannot see it."""
    name: str
    card: MapDocument
    bytes: int
    """Bytes of its weights."""
    created_at: Timestamp
    links: dict[str, str]


class MapPage(Document):
    """One page of maps, newest first."""

    data: tuple[StoredMap, ...]
    has_more: bool
    next_cursor: str | None


class TranslatedVectors(Document):
    """A few vectors in the space that a map leads to."""

    map: MapId
    vectors: tuple[tuple[Finite, ...], ...]
    """Row by row; near b's prepared rows, and not scaled."""


class TranslationDocument(Document):
    """What came of a set's translation."""

    map: MapId
    source: EmbeddingId
    """The set that was translated."""
    layer: str
    embedding: EmbeddingSet
    """The new set: one layer, with the ids and groups of the other."""
