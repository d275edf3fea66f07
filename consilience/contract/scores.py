"""The score document: a number and everything that it needs to be understood."""

from typing import Any, Literal

from pydantic import Field

from consilience.contract.base import Digest, Document, EmbeddingId, Finite, ReferenceId, Share
from consilience.contract.metric import Direction, NullMethod

Grid = tuple[tuple[Finite | None, ...], ...]


class SideSummary(Document):
    """One side of the comparison."""

    id: str | None
    """The embedding set's id; null where arrays or local files were scored."""
    name: str
    n: int
    layers: tuple[str, ...]
    """The layers that took part, in the grid's order."""


class Pairing(Document):
    """How the rows of the two sides were matched."""

    by: Literal["row", "id"] = "row"
    matched: int
    groups: int | None = None
    """Groups of items that belong together; null where every item stands alone."""
    dropped_a: int = 0
    dropped_b: int = 0
    duplicates_a: int = 0
    """Rows of the first layer of a that equal an earlier row."""
    duplicates_b: int = 0


class PreparationRecord(Document):
    """What was done to the rows before any metric saw them."""

    profile: str
    centre: bool = False
    normalise: Literal["l2"] | None
    clamp_quantile: Finite | None = None
    clamp_scope: Literal["model", "layer"] | None = None
    clamp_a: tuple[Finite, ...] | Finite | None = None
    """The threshold in force; one a layer under scope `layer`."""
    clamp_b: tuple[Finite, ...] | Finite | None = None


class Reason(Document):
    """Why something has no value."""

    code: str
    detail: str


class Null(Document):
    """What chance alone would give, and how surprising the value is against it."""

    method: NullMethod
    cells: int
    """Layer pairs over which the best was taken; the correction is for these."""
    mean: Finite | None = None
    sd: Finite | None = None
    threshold: Finite | None = None
    """A value above it has p below alpha."""
    p_value: Share | None = None
    p_is_bound: bool = False
    """The true p is at most this: under Bonferroni, and below 1e-12."""
    draws: int | None = None
    alpha: Finite | None = None
    correction: Literal["holm", "benjamini_hochberg"] | None = None
    p_adjusted: Share | None = None
    """The p-value corrected over all scores of the document."""
    reason: Reason | None = None
    """Why figures above are null."""


class Interval(Document):
    """Where the value would lie if the items were drawn anew."""

    low: Finite
    high: Finite
    level: Finite
    target: Literal["population", "gallery"]
    method: str


class NeighboursRecord(Document):
    """How the neighbour graphs came about."""

    builder: str
    """Exact: `faiss_flat`, `symmetric`, `certified_bf16`, `certified_f32`, `queries`; else the index-factory string."""
    recall: Share
    """Share of the true neighbours that were found: 1 for an exact builder, else measured, of the worst layer."""
    recall_queries: int | None = None
    """Rows on which the recall was measured; null for an exact builder."""
    certified: Share | None = None
    """Share of rows that rounded products and their bound settled; the others were searched in float32 on the processor."""
    device: str = "cpu"
    """What multiplied: `cpu`, or a card such as `cuda:0 NVIDIA H100`; every device finds the same neighbours."""
    cache: Literal["hit", "miss", "mixed"]


class GalleryPoint(Document):
    """The score in a gallery of fewer rows, drawn at random, each inside the next; its own rows ask, as far as they do."""

    n: int
    value: Finite
    low: Finite
    high: Finite
    """Interval for the score of this gallery, at the interval's level; a point where all its rows asked, or all that asked
    scored the same."""


class GraphUse(Document):
    """Neighbour graphs that the job took from the cache, and those that it had to build."""

    hits: int
    misses: int


class Score(Document):
    """One metric's result."""

    metric: str
    options: dict[str, Any]
    definition: str
    direction: Direction
    status: Literal["defined", "undefined"]
    reason: Reason | None = None
    """Why it is undefined; null where it is defined."""
    value: Finite | None
    aggregate: str
    layer_a: str | None
    layer_b: str | None
    grid: Grid
    """grid[i][j] is layer i of a against layer j of b; null where undefined."""
    null: Null
    calibrated: Finite | None = None
    """(value - threshold) / (1 - threshold), not below 0; null for distances and without a threshold."""
    interval: Interval | None = None
    estimator: Literal["exact", "estimated", "approximate"] = "exact"
    """estimated: from some of the rows as queries; approximate: from graphs that miss some neighbours."""
    queries: int
    """Rows that asked."""
    neighbours: NeighboursRecord | None = None
    gallery_curve: tuple[GalleryPoint, ...] | None = None
    warnings: tuple[str, ...] = ()


class ScoreDocument(Document):
    """The answer to an alignment request."""

    schema_: Literal["consilience.score/1"] = Field(default="consilience.score/1", alias="schema")
    a: SideSummary
    b: SideSummary
    n: int
    pairing: Pairing
    preparation: PreparationRecord
    scores: tuple[Score, ...]
    graphs: GraphUse | None = None
    """Null where no graph was needed."""
    seed: int
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    timings_s: dict[str, Finite]


class ReferenceSummary(Document):
    """Which reference set it was."""

    id: ReferenceId
    name: str
    digest: Digest
    """Its version: equal for equal content."""


class MemberScores(Document):
    """The model's scores against one member: those of the two sets' own score document."""

    b: SideSummary
    own: bool = False
    """Whether the member holds the model's own content. Its scores stand here, and count for nothing in a standing."""
    pairing: Pairing
    preparation: PreparationRecord
    scores: tuple[Score, ...]
    warnings: tuple[str, ...] = ()


class MemberMean(Document):
    """How a member does against the others."""

    id: EmbeddingId
    name: str
    value: Finite | None
    """Mean of its scores against each of the other members; null where none is defined."""


class Standing(Document):
    """Where the model stands among the members under one metric, each judged by its mean score against the other members."""

    metric: str
    options: dict[str, Any]
    definition: str
    direction: Direction
    value: Finite | None
    """Mean of the model's scores against the members; null where none is defined."""
    against: int
    """Scores in that mean: members, less the undefined scores and a member that holds the model's own content."""
    rank: int | None
    """1 and the number of members that do better: a larger mean, of a distance a smaller one. Means that differ by no more than
    rounding are equal, and equals share the better rank. Null where there is nothing to rank among: see `reason`."""
    of: int
    """How many are ranked: the model, and the members that have a mean."""
    ties: int
    """Members that do as well as the model."""
    ahead_of: Share | None
    """Share of the ranked members that the model does better than, those that do as well counted half."""
    reason: Reason | None = None
    """Why there is no rank."""
    members: tuple[MemberMean, ...]
    """In the order of the reference set."""


class ReferenceDocument(Document):
    """The answer to an alignment request against a reference set."""

    schema_: Literal["consilience.reference/1"] = Field(default="consilience.reference/1", alias="schema")
    a: SideSummary
    reference: ReferenceSummary
    n: int
    """Items of each member."""
    standings: tuple[Standing, ...]
    """One for each metric and its options, in the order of each member's scores."""
    members: tuple[MemberScores, ...]
    """In the order of the reference set."""
    graphs: GraphUse | None = None
    """Null where no graph was needed."""
    pairs_known: int
    """Pairs of members whose scores an earlier job had found, with the same options."""
    pairs: int
    """Pairs of members in all."""
    seed: int
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    timings_s: dict[str, Finite]

    def against(self, index: int) -> ScoreDocument:
        """The score document of the model and one member."""
        member = self.members[index]
        return ScoreDocument(
            a=self.a,
            b=member.b,
            n=member.pairing.matched,
            pairing=member.pairing,
            preparation=member.preparation,
            scores=member.scores,
            seed=self.seed,
            warnings=member.warnings,
            versions=self.versions,
            timings_s={},
        )
