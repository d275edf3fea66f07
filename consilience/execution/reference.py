"""What a job does that scores one stored set against all members of a reference set."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from itertools import combinations, permutations
from math import fsum, isclose

from consilience.contract.alignments import ScoringOptions
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.references import ReferenceSet
from consilience.contract.scores import (
    GraphUse,
    MemberMean,
    MemberScores,
    Reason,
    ReferenceDocument,
    ReferenceRank,
    ReferenceSummary,
    Score,
    ScoreDocument,
)
from consilience.execution.addresses import ClusterAddress
from consilience.execution.alignment import CachedGraphs, Prefetcher, mentions_any, open_set
from consilience.execution.parallel import open_executor
from consilience.metrics.comparison import Address, GraphSource, Report
from consilience.metrics.results import correct
from consilience.numerics.rows.parallel import Parts
from consilience.numerics.rows.sources import SideSource
from consilience.planning.studies import SIDES_BYTES, is_mirrored, mutual_options
from consilience.scoring import Stopwatch, find_versions, score_sources
from consilience.stores.blobs import BlobStore
from consilience.stores.graph_cache import DiskCache
from consilience.studies.running import CachedFacts, SideCache

#: Means that are nearer to each other than this share of them differ by rounding alone.
TIE = 1e-12

#: The value of (member, other member), None where it is undefined.
Mutual = Mapping[tuple[int, int], float | None]


@dataclass(frozen=True)
class MemberNames:
    """What the members are called, in their order."""

    ids: Sequence[str]
    names: Sequence[str]


def rank_model(
    scores: Sequence[Score], mutual: Mapping[tuple[int, int], float | None], members: MemberNames, own: int | None
) -> ReferenceRank:
    """Rank the model by its mean score among the members by theirs.

    Parameters
    ----------
    scores : the model's score against each member, under one metric
    mutual : the value of each member against each other one, under the same metric
    members : Names
    own : the member that holds the model's own content, None where none does; it is left out of the model's mean and of those
        that it is ranked among, so that a member stands where its own mean places it
    """
    count = len(scores)
    others = [j for j in range(count) if j != own]
    value, against = _mean([scores[j].value for j in others])
    means = [_mean([mutual[j, i] for i in range(count) if i != j])[0] for j in range(count)]
    ranked = [mean for j in others if (mean := means[j]) is not None]
    first = scores[0]
    sign = 1.0 if first.direction == "similarity" else -1.0
    ties = better = None
    if value is not None and ranked:
        ties = sum(_equal(mean, value) for mean in ranked)
        better = sum(sign * mean > sign * value for mean in ranked if not _equal(mean, value))
    return ReferenceRank(
        metric=first.metric,
        options=first.options,
        definition=first.definition,
        direction=first.direction,
        value=value,
        n_scores=against,
        rank=None if better is None else better + 1,
        n_ranked=len(ranked) + 1,
        ties=ties or 0,
        outranked_share=None if better is None or ties is None else (len(ranked) - better - ties / 2) / len(ranked),
        reason=_find_reason(value, ranked, count),
        members=tuple(
            MemberMean(id=own_id, name=name, value=mean)
            for own_id, name, mean in zip(members.ids, members.names, means, strict=True)
        ),
    )


def without_rank(standing: ReferenceRank, reason: Reason) -> ReferenceRank:
    """The same means without a rank."""
    return standing.model_copy(update={"rank": None, "ties": 0, "outranked_share": None, "reason": reason})


def _mean(values: Sequence[float | None]) -> tuple[float | None, int]:
    """The mean of those that are defined, and how many these are; the sum is exact, whatever the order."""
    defined = [value for value in values if value is not None]
    return (fsum(defined) / len(defined), len(defined)) if defined else (None, 0)


def _equal(first: float, second: float) -> bool:
    return isclose(first, second, rel_tol=TIE, abs_tol=TIE)


def _find_reason(value: float | None, ranked: Sequence[float], members: int) -> Reason | None:
    if value is None:
        return Reason(code="undefined-scores", detail="No score of the model against another member is defined.")
    if members == 1:
        return Reason(code="one-member", detail="The one member has no other to be scored against.")
    if not ranked:
        return Reason(code="no-other-means", detail="No other member has a defined score against another one.")
    return None


#: Raised when the value of a pair of members would be another.
PAIR_FORMAT_VERSION = 1

OTHER_LAYERS = (
    "The model takes part with other layers than the members do among themselves: the best of more pairs is larger by chance "
    "alone, so that its rank is not comparable."
)

#: The values of a pair under each metric, None where undefined.
Values = tuple[float | None, ...]


@dataclass(frozen=True)
class ReferenceMembers:
    """A reference set and its members."""

    reference: ReferenceSet
    members: Sequence[EmbeddingSet]

    @property
    def names(self) -> MemberNames:
        """What the members are called."""
        return MemberNames([each.id for each in self.members], [each.name for each in self.members])


def run_reference(
    options: ScoringOptions,
    a: EmbeddingSet,
    against: ReferenceMembers,
    blobs: BlobStore,
    graphs: DiskCache,
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
    lasting = [layer.digest for member in against.members for layer in member.layers]
    name = _address(mutual_options(options), [against.reference.digest])
    with open_executor(cluster) as parts, Prefetcher(graphs, name, mentions_any(lasting)) as ahead:
        cached = CachedGraphs(graphs, report, ahead)
        known = CachedFacts(_TransientFacts(cached, [layer.digest for layer in a.layers]))
        return _ReferenceRun(options, a, against, blobs, known, report, parts, device).run()


class _TransientFacts:
    """Facts about a model are found and not kept: a checkpoint is scored once, and each fact would be a file."""

    def __init__(self, source: CachedGraphs, digests: Sequence[str]) -> None:
        self.graph, self.matrix = source.graph, source.matrix
        self._source, self._digests = source, digests

    def fact(self, key: Address, find: Callable[[], bytes]) -> bytes:
        """Find it where it is the model's, else ask the cache."""
        address = key()
        passes = any(digest in address for digest in self._digests)
        return find() if passes else self._source.fact(lambda: address, find)


@dataclass
class _ReferenceRun:
    options: ScoringOptions
    a: EmbeddingSet
    against: ReferenceMembers
    blobs: BlobStore
    graphs: GraphSource
    report: Report
    parts: Parts
    device: str
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    sides: SideCache = field(default_factory=lambda: SideCache(SIDES_BYTES))
    """Holds the model's side while it is scored, and those of members: what is found of a layer serves every pair."""
    scored: int = 0
    """Pairs of members that were scored anew."""

    def run(self) -> ReferenceDocument:
        """Score, rank and write it down."""
        reference, members = self.against.reference, self.against.members
        with self.stopwatch.time("members"):
            documents = self._score_members()
        with self.stopwatch.time("mutual"):
            mutual = self._mutual()
        return ReferenceDocument(
            a=documents[0].a,
            reference=ReferenceSummary(id=reference.id, name=reference.name, digest=reference.digest),
            n=members[0].n,
            ranks=tuple(self._stand(documents, mutual)),
            members=tuple(self._describe(documents)),
            graphs=_sum_graph_use(documents),
            pairs_reused=len(self._pairs) - self.scored,
            pairs=len(self._pairs),
            seed=self.options.seed,
            warnings=() if self.options.layers.a == self.options.layers.b else (OTHER_LAYERS,),
            versions=find_versions(),
            timings_s=self.stopwatch.rounded(),
        )

    # The model against the members.

    def _score_members(self) -> list[ScoreDocument]:
        """The model's document with each member; the p-values are corrected later, over all of them."""
        null = self.options.null.model_copy(update={"correction": "none"})
        options, documents = self.options.model_copy(update={"null": null}), []
        model = self._open(self.a)
        for done, member in enumerate(self._sources):
            self.report("members", done, len(self._sources))
            documents.append(self._score(options, model, member))
        return documents

    def _score(self, options: ScoringOptions, a: SideSource, b: SideSource) -> ScoreDocument:
        document = score_sources(
            options, a, b, self.graphs, _ignore_progress, sides=self.sides, parts=self.parts, device=self.device
        )
        self.sides.rest()
        return document

    def _open(self, embeddings: EmbeddingSet) -> SideSource:
        return open_set(embeddings, self.blobs, with_ids=self.options.pairing == "id")

    @cached_property
    def _sources(self) -> list[SideSource]:
        """The members, which will be asked for again by every model to come."""
        return [replace(self._open(member), persistent=True) for member in self.against.members]

    # The members among themselves.

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        count = range(len(self.against.members))
        return list(combinations(count, 2) if is_mirrored(self.options) else permutations(count, 2))

    def _mutual(self) -> dict[tuple[int, int], Values]:
        """The values of every pair of members, in both orders: kept for all of them together, and for each pair."""
        options = mutual_options(self.options)
        everyone = [member.digest for member in self.against.members]

        def find() -> bytes:
            return json.dumps([self._pair_values(options, pair) for pair in self._pairs]).encode()

        kept = self.graphs.fact(lambda: _address(options, everyone), find)
        found = {pair: tuple(values) for pair, values in zip(self._pairs, json.loads(kept), strict=True)}
        return {(j, i): values for (i, j), values in found.items()} | found

    def _pair_values(self, options: ScoringOptions, pair: tuple[int, int]) -> Values:
        def find() -> bytes:
            self.report("pairs of members", self.scored, len(self._pairs))
            self.scored += 1
            a, b = (self._sources[each] for each in pair)
            return json.dumps([score.value for score in self._score(options, a, b).scores]).encode()

        digests = [self.against.members[each].digest for each in pair]
        return tuple(json.loads(self.graphs.fact(lambda: _address(options, digests), find)))

    # What it comes to.

    def _stand(
        self, documents: Sequence[ScoreDocument], mutual: dict[tuple[int, int], Values]
    ) -> Iterator[ReferenceRank]:
        own = next((j for j, member in enumerate(self.against.members) if self._is_own(member)), None)
        reason = self._find_reason(documents)
        for place in range(len(documents[0].scores)):
            standing = rank_model(
                [document.scores[place] for document in documents],
                {pair: values[place] for pair, values in mutual.items()},
                self.against.names,
                own,
            )
            yield standing if reason is None else without_rank(standing, reason)

    def _find_reason(self, documents: Sequence[ScoreDocument]) -> Reason | None:
        """Why the model's scores are not to be compared with those of members among themselves."""
        n, matched = self.against.members[0].n, min(document.n for document in documents)
        if matched == n:
            return None
        return Reason(
            code="fewer-items",
            detail=f"The model has {matched} of the members' {n} items, and their own scores are those of all items.",
        )

    def _describe(self, documents: Sequence[ScoreDocument]) -> Iterator[MemberScores]:
        """Each member's scores, their p-values corrected for all scores of the document."""
        corrected = iter(correct([score for each in documents for score in each.scores], self.options.null))
        for document, member in zip(documents, self.against.members, strict=True):
            yield MemberScores(
                b=document.b,
                same_content=self._is_own(member),
                pairing=document.pairing,
                preparation=document.preparation,
                scores=tuple(next(corrected) for _ in document.scores),
                warnings=document.warnings,
            )

    def _is_own(self, member: EmbeddingSet) -> bool:
        return [layer.digest for layer in member.layers] == [layer.digest for layer in self.a.layers]


def _address(options: ScoringOptions, digests: Sequence[str]) -> str:
    """Of the values of two members, or of all pairs of more: what they depend on."""
    words = f"{PAIR_FORMAT_VERSION} {options.model_dump_json()} {' '.join(digests)}"
    return f"values of members {sha256(words.encode()).hexdigest()}"


def _sum_graph_use(documents: Sequence[ScoreDocument]) -> GraphUse | None:
    used = [document.graphs for document in documents if document.graphs is not None]
    if not used:
        return None
    return GraphUse(hits=sum(each.hits for each in used), misses=sum(each.misses for each in used))


def _ignore_progress(stage: str, done: int, total: int) -> None:
    """Stages of one pair are too short to be told."""
