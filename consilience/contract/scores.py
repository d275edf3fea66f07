"""Results of alignments: scores with null distribution, interval and details of the computation."""

from typing import Any, Literal

from pydantic import Field

from consilience.contract.base import Digest, Document, EmbeddingId, Finite, ReferenceId, Share
from consilience.contract.metric import Direction, NullMethod

ScoreGrid = tuple[tuple[Finite | None, ...], ...]


class SideSummary(Document):
    """Summary of one side of the comparison."""

    id: str | None
    """Id of the embedding set; null if the side was an array or a local file."""
    name: str
    n: int
    """Number of rows."""
    layers: tuple[str, ...]
    """Names of the compared layers, in the order of the grid."""


class Pairing(Document):
    """Matching of the rows of the two sides."""

    by: Literal["row", "id"] = "row"
    """Matching by position (`row`) or by item id (`id`)."""
    matched: int
    """Number of matched rows."""
    groups: int | None = None
    """Number of groups of items that belong together; null if there are no groups."""
    dropped_a: int = 0
    """Number of rows of a without a match."""
    dropped_b: int = 0
    """Number of rows of b without a match."""
    duplicates_a: int = 0
    """Number of rows of a's first layer that equal an earlier row."""
    duplicates_b: int = 0
    """Number of rows of b's first layer that equal an earlier row."""


class PreparationRecord(Document):
    """Preprocessing that was applied to the rows."""

    profile: str
    """Name of the profile."""
    centre: bool = False
    """Whether the mean row was subtracted."""
    normalise: Literal["l2"] | None
    """Scaling of the rows: `l2`, or null for none."""
    clamp_quantile: Finite | None = None
    clamp_scope: Literal["model", "layer"] | None = None
    clamp_a: tuple[Finite, ...] | Finite | None = None
    """Clamping threshold of a; one for each layer if `clamp_scope` is `layer`."""
    clamp_b: tuple[Finite, ...] | Finite | None = None
    """Clamping threshold of b; one for each layer if `clamp_scope` is `layer`."""


class Reason(Document):
    """Reason that a value is missing."""

    code: str
    """Stable identifier of the reason."""
    detail: str
    """Description of the reason."""


class NullDistribution(Document):
    """Null distribution of a score and the significance of its value."""

    method: NullMethod
    """Method that gave the null distribution."""
    layer_pairs: int
    """Number of layer pairs among which the best was selected; the p-value is corrected for this selection."""
    mean: Finite | None = None
    """Mean of the null distribution."""
    sd: Finite | None = None
    """Standard deviation of the null distribution."""
    threshold: Finite | None = None
    """Critical value: a score above it has a p-value below `alpha`."""
    p_value: Share | None = None
    """P-value of the score."""
    p_is_bound: bool = False
    """Whether the p-value is an upper bound, which is so with the Bonferroni correction and below 1e-12."""
    permutations: int | None = None
    """Number of permutations."""
    alpha: Finite | None = None
    """Significance level of the threshold."""
    correction: Literal["holm", "benjamini_hochberg"] | None = None
    """Correction for multiple scores that gave `p_adjusted`."""
    p_adjusted: Share | None = None
    """P-value corrected over all scores of the document."""
    reason: Reason | None = None
    """Reason that the values above are null."""


class Interval(Document):
    """Confidence interval of a score."""

    low: Finite
    """Lower end of the interval."""
    high: Finite
    """Upper end of the interval."""
    level: Finite
    """Confidence level."""
    target: Literal["population", "gallery"]
    """Quantity that the interval is for: the score in the `population` of items, or the exact score of this `gallery`."""
    method: str
    """Method that computed the interval."""


class NeighboursRecord(Document):
    """Method that computed the neighbour graphs."""

    builder: str
    """Search method. Exact methods are `faiss_flat`, `symmetric`, `verified_bf16`, `verified_f32` and `queries`; any
    other value is the FAISS index-factory string of an approximate index."""
    recall: Share
    """Share of the true neighbours that were found, of the layer with the lowest share: 1 for an exact method, otherwise
    measured."""
    recall_queries: int | None = None
    """Number of rows on which the recall was measured; null for an exact method."""
    verified: Share | None = None
    """Share of rows whose neighbours rounded products and their error bound verified; the other rows were searched again
    in float32 on the processor."""
    device: str = "cpu"
    """Device that searched: `cpu`, or a GPU such as `cuda:0 NVIDIA H100`. Every device finds the same neighbours."""
    cache: Literal["hit", "miss", "mixed"]
    """Use of the graph cache: all graphs were cached (`hit`), none (`miss`) or some (`mixed`)."""


class GalleryPoint(Document):
    """Score in a random subset of the gallery, from which the query rows are taken too. The subsets are nested."""

    n: int
    """Number of rows in the subset."""
    value: Finite
    """Score in the subset."""
    low: Finite
    """Lower end of the confidence interval."""
    high: Finite
    """Upper end of the confidence interval for the score in this subset. Both ends equal the value if all of its rows
    were queries, or if all queries have the same score."""


class GraphUse(Document):
    """Neighbour graphs that the job read from the cache and graphs that it had to compute."""

    hits: int
    """Number of graphs read from the cache."""
    misses: int
    """Number of graphs that had to be computed."""


class Score(Document):
    """Result of one metric."""

    metric: str
    """Name of the metric."""
    options: dict[str, Any]
    """Options of the metric."""
    definition: str
    """Definition of the metric that was computed."""
    direction: Direction
    """Whether agreement is a large value (`similarity`) or a small value (`distance`)."""
    status: Literal["defined", "undefined"]
    """Whether the score is defined for these rows."""
    reason: Reason | None = None
    """Reason that the score is undefined; null if it is defined."""
    value: Finite | None
    """Score; null if it is undefined."""
    aggregate: str
    """Reduction of the grid to the value."""
    layer_a: str | None
    """Layer of a in the best layer pair."""
    layer_b: str | None
    """Layer of b in the best layer pair."""
    grid: ScoreGrid
    """Scores of all layer pairs: grid[i][j] is layer i of a with layer j of b, null if undefined."""
    null: NullDistribution
    calibrated: Finite | None = None
    """(value - threshold) / (1 - threshold), and 0 if that is negative; null for distances and if there is no threshold."""
    interval: Interval | None = None
    estimator: Literal["exact", "estimated", "approximate"] = "exact"
    """Kind of computation: `exact`, `estimated` from a sample of query rows, or `approximate` because the graphs miss
    some neighbours."""
    queries: int
    """Number of query rows."""
    neighbours: NeighboursRecord | None = None
    """Method that computed the neighbour graphs; null if the metric needs none."""
    gallery_curve: tuple[GalleryPoint, ...] | None = None
    """Score in smaller galleries, if the request has `gallery_sizes`."""
    warnings: tuple[str, ...] = ()


class ScoreDocument(Document):
    """Result of an alignment request."""

    schema_: Literal["consilience.score/1"] = Field(default="consilience.score/1", alias="schema")
    a: SideSummary
    b: SideSummary
    n: int
    """Number of matched rows."""
    pairing: Pairing
    preparation: PreparationRecord
    scores: tuple[Score, ...]
    graphs: GraphUse | None = None
    """Use of the cache of neighbour graphs; null if no graph was needed."""
    seed: int
    """Seed of all random choices."""
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    """Versions of the software that computed the scores."""
    timings_s: dict[str, Finite]
    """Wall-clock time of each step, in seconds."""


class ReferenceSummary(Document):
    """Reference set that the model was compared with."""

    id: ReferenceId
    name: str
    digest: Digest
    """Digest of the reference set; equal for equal content."""


class MemberScores(Document):
    """Scores of the model against one member of the reference set."""

    b: SideSummary
    same_content: bool = False
    """Whether the member has the same content as the model. Its scores are listed but do not count towards the rank."""
    pairing: Pairing
    preparation: PreparationRecord
    scores: tuple[Score, ...]
    warnings: tuple[str, ...] = ()


class MemberMean(Document):
    """Mean score of one member against the other members."""

    id: EmbeddingId
    name: str
    value: Finite | None
    """Mean of the member's scores against each other member; null if none is defined."""


class ReferenceRank(Document):
    """Rank of the model among the members under one metric, by mean score against the other members."""

    metric: str
    """Name of the metric."""
    options: dict[str, Any]
    """Options of the metric."""
    definition: str
    """Definition of the metric that was computed."""
    direction: Direction
    """Whether agreement is a large value (`similarity`) or a small value (`distance`)."""
    value: Finite | None
    """Mean score of the model against the members; null if no score is defined."""
    n_scores: int
    """Number of scores in that mean. Undefined scores, and a member with the same content as the model, are left out."""
    rank: int | None
    """Rank, from 1 for the best: a larger mean is better, for a distance a smaller one. Means that differ only by
    rounding are equal and share the better rank. Null if there is nothing to rank; `reason` says why."""
    n_ranked: int
    """Number of ranked sets: the model and every member that has a mean."""
    ties: int
    """Number of members with the same mean as the model."""
    outranked_share: Share | None
    """Share of the ranked members that have a worse mean than the model; members with an equal mean count half."""
    reason: Reason | None = None
    """Reason that there is no rank."""
    members: tuple[MemberMean, ...]
    """Mean score of each member, in the order of the reference set."""


class ReferenceDocument(Document):
    """Result of an alignment with a reference set."""

    schema_: Literal["consilience.reference/1"] = Field(default="consilience.reference/1", alias="schema")
    a: SideSummary
    reference: ReferenceSummary
    n: int
    """Number of items of each member."""
    ranks: tuple[ReferenceRank, ...]
    """Rank of the model under each metric and its options, in the order of the scores of each member."""
    members: tuple[MemberScores, ...]
    """Scores against each member, in the order of the reference set."""
    graphs: GraphUse | None = None
    """Use of the cache of neighbour graphs; null if no graph was needed."""
    pairs_reused: int
    """Number of member pairs whose scores an earlier job with the same options had computed."""
    pairs: int
    """Total number of member pairs."""
    seed: int
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    timings_s: dict[str, Finite]
    """Wall-clock time of each step, in seconds."""

    def score_document(self, index: int) -> ScoreDocument:
        """Return the score document of the model and one member."""
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
