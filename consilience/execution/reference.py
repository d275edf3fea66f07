"""What a job does that scores one stored set against all members of a reference set."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations, permutations

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import ScoringOptions
from consilience.contract.reference_scores import MemberScores, ReferenceDocument, ReferenceSummary, Standing
from consilience.contract.references import ReferenceSet
from consilience.contract.scores import GraphUse, Reason, Score, ScoreDocument
from consilience.execution.addresses import ClusterAddress
from consilience.execution.alignment import CachedGraphs, open_set
from consilience.execution.places import open_parts
from consilience.execution.standing import Names, find_standing, unranked
from consilience.measures.chance import correct
from consilience.measures.comparison import Report
from consilience.numerics.parts import Parts
from consilience.numerics.sources import Source
from consilience.reference_planning import is_mirrored, mutual_options
from consilience.scoring import Stopwatch, find_versions, score_sources
from consilience.stores.blobs import Blobs
from consilience.stores.graphs import Graphs

#: Raised when the value of a pair of members would be another.
PAIR_VERSION = 1

OTHER_LAYERS = (
    "The model takes part with other layers than the members do among themselves: the best of more pairs is larger by chance "
    "alone, so that its rank is not comparable."
)

#: The values of a pair under each metric, None where undefined.
Values = tuple[float | None, ...]


@dataclass(frozen=True)
class Against:
    """A reference set and its members."""

    reference: ReferenceSet
    members: Sequence[EmbeddingSet]

    @property
    def names(self) -> Names:
        """What the members are called."""
        return Names([each.id for each in self.members], [each.name for each in self.members])


def run_reference(
    options: ScoringOptions,
    a: EmbeddingSet,
    against: Against,
    blobs: Blobs,
    graphs: Graphs,
    *,
    report: Report,
    cluster: ClusterAddress | None = None,
    device: str = "cpu",
) -> ReferenceDocument:
    """Score a stored set against each member, and say where it stands among them.

    The scores are those of as many alignments. The members' scores against each other are found once for the same content and
    options, and kept with the facts about layers.

    Parameters
    ----------
    report, cluster, device
        As `alignment.run_alignment` has them.

    Raises
    ------
    Unavailable, InputError
        As an alignment does.
    """
    with open_parts(cluster) as parts:
        work = _Work(options, a, against, blobs, CachedGraphs(graphs, report), report, parts, device)
        return work.run()


@dataclass
class _Work:
    options: ScoringOptions
    a: EmbeddingSet
    against: Against
    blobs: Blobs
    graphs: CachedGraphs
    report: Report
    parts: Parts
    device: str
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    _scored: int = 0
    """Pairs of members that were scored anew."""

    def run(self) -> ReferenceDocument:
        members = self.against.members
        with self.stopwatch.time("members"):
            documents = self._score_members()
        with self.stopwatch.time("mutual"):
            mutual = self._mutual()
        scores = self._correct(documents)
        pairs = len(list(self._pairs()))
        return ReferenceDocument(
            a=documents[0].a,
            reference=ReferenceSummary(
                id=self.against.reference.id, name=self.against.reference.name, digest=self.against.reference.digest
            ),
            n=members[0].n,
            standings=tuple(self._stand(documents, mutual)),
            members=tuple(
                MemberScores(
                    b=document.b,
                    own=self._is_own(member),
                    pairing=document.pairing,
                    preparation=document.preparation,
                    scores=own,
                    warnings=document.warnings,
                )
                for document, member, own in zip(documents, members, scores, strict=True)
            ),
            graphs=_add_up(documents),
            pairs_known=pairs - self._scored,
            pairs=pairs,
            seed=self.options.seed,
            warnings=self._warnings(),
            versions=find_versions(),
            timings_s=self.stopwatch.rounded(),
        )

    def _score_members(self) -> list[ScoreDocument]:
        """The model's document with each member; the p-values are corrected later, over all of them."""
        options = self.options.model_copy(update={"null": self.options.null.model_copy(update={"correction": "none"})})
        model, documents = self._open(self.a), []
        for done, member in enumerate(self.against.members):
            self.report("members", done, len(self.against.members))
            documents.append(self._score(options, model, self._open(member)))
        return documents

    def _score(self, options: ScoringOptions, a: Source, b: Source) -> ScoreDocument:
        return score_sources(options, a, b, self.graphs, _be_silent, parts=self.parts, device=self.device)

    def _open(self, embeddings: EmbeddingSet) -> Source:
        return open_set(embeddings, self.blobs, with_ids=self.options.pairing == "id")

    def _is_own(self, member: EmbeddingSet) -> bool:
        return [layer.digest for layer in member.layers] == [layer.digest for layer in self.a.layers]

    def _correct(self, documents: Sequence[ScoreDocument]) -> Iterator[tuple[Score, ...]]:
        """Each member's scores, their p-values corrected for all scores of the document."""
        corrected = iter(correct([score for each in documents for score in each.scores], self.options.null))
        for document in documents:
            yield tuple(next(corrected) for _ in document.scores)

    # The members among themselves.

    def _pairs(self) -> Iterator[tuple[int, int]]:
        count = range(len(self.against.members))
        return combinations(count, 2) if is_mirrored(self.options) else permutations(count, 2)

    def _mutual(self) -> dict[tuple[int, int], Values]:
        """The values of every pair of members, in both orders."""
        options = mutual_options(self.options)
        sources: dict[int, Source] = {}
        found: dict[tuple[int, int], Values] = {}
        pairs = list(self._pairs())
        for done, (i, j) in enumerate(pairs):
            self.report("pairs of members", done, len(pairs))
            found[i, j] = self._pair_values(options, sources, (i, j))
            if is_mirrored(self.options):
                found[j, i] = found[i, j]
        return found

    def _pair_values(self, options: ScoringOptions, sources: dict[int, Source], pair: tuple[int, int]) -> Values:
        members = [self.against.members[each] for each in pair]

        def find() -> bytes:
            self._scored += 1
            sides = [sources.setdefault(each, self._open(self.against.members[each])) for each in pair]
            return json.dumps([score.value for score in self._score(options, *sides).scores]).encode()

        words = f"reference pair {PAIR_VERSION} {options.model_dump_json()} {members[0].digest} {members[1].digest}"
        address = f"pair {sha256(words.encode()).hexdigest()}"
        return tuple(json.loads(self.graphs.fact(lambda: address, find)))

    # What it comes to.

    def _stand(self, documents: Sequence[ScoreDocument], mutual: dict[tuple[int, int], Values]) -> Iterator[Standing]:
        own = next((j for j, member in enumerate(self.against.members) if self._is_own(member)), None)
        reason = self._find_reason(documents)
        for place in range(len(documents[0].scores)):
            standing = find_standing(
                [document.scores[place] for document in documents],
                {pair: values[place] for pair, values in mutual.items()},
                self.against.names,
                own,
            )
            yield standing if reason is None else unranked(standing, reason)

    def _find_reason(self, documents: Sequence[ScoreDocument]) -> Reason | None:
        """Why the model's scores are not to be compared with those of members among themselves."""
        n, matched = self.against.members[0].n, min(document.n for document in documents)
        if matched == n:
            return None
        return Reason(
            code="fewer-items",
            detail=f"The model has {matched} of the members' {n} items, and their own scores are those of all items.",
        )

    def _warnings(self) -> tuple[str, ...]:
        layers = self.options.layers
        if layers.a == layers.b:
            return ()
        return (OTHER_LAYERS,)


def _add_up(documents: Sequence[ScoreDocument]) -> GraphUse | None:
    used = [document.graphs for document in documents if document.graphs is not None]
    if not used:
        return None
    return GraphUse(hits=sum(each.hits for each in used), misses=sum(each.misses for each in used))


def _be_silent(stage: str, done: int, total: int) -> None:
    """Stages of one pair are too short to be told."""
