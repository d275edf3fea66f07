"""What comes of an alignment against a reference set: the scores against each member, and where they place the model."""

from typing import Any, Literal

from pydantic import Field

from consilience.contract.base import Digest, Document, EmbeddingId, Finite, ReferenceId, Share
from consilience.contract.metric import Direction
from consilience.contract.scores import GraphUse, Pairing, PreparationRecord, Reason, Score, ScoreDocument, SideSummary


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
