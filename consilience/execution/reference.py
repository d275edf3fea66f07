"""Scoring of a stored set against all members of a reference set, and its rank among them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from itertools import combinations, permutations
from math import fsum, isclose
from typing import Self

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
from consilience.metrics.comparison import Report
from consilience.metrics.graph_sources import GraphSource, LazyKey
from consilience.metrics.results import correct
from consilience.numerics.rows.parallel import Executor
from consilience.numerics.rows.sources import SideSource
from consilience.planning.studies import SIDES_BYTES, is_mirrored, mutual_options
from consilience.scoring import Stopwatch, find_versions, score_sources
from consilience.stores.blobs import BlobStore
from consilience.stores.graph_cache import DiskCache
from consilience.studies.running import CachedFacts, SideCache

#: Relative difference up to which two means are equal but for rounding.
TIE = 1e-12

#: Value of (member, other member), None if undefined.
Mutual = Mapping[tuple[int, int], float | None]


@dataclass(frozen=True)
class MemberNames:
    """Ids and names of the members, in their order."""

    ids: Sequence[str]
    names: Sequence[str]


def rank_model(
    scores: Sequence[Score], mutual: Mapping[tuple[int, int], float | None], members: MemberNames, own: int | None
) -> ReferenceRank:
    """Rank the model among the members by mean scores.

    Parameters
    ----------
    scores : scores of the model against each member, by one metric
    mutual : value of each member against each other one, by the same metric
    members : Names
    own : index of the member that has the same content as the model, or None. It is excluded from the model's mean and from
        the ranked members, so that a member has the rank of its own mean
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
    """Return the same means without a rank."""
    return standing.model_copy(update={"rank": None, "ties": 0, "outranked_share": None, "reason": reason})


def _mean(values: Sequence[float | None]) -> tuple[float | None, int]:
    """Return mean and number of the defined values. The sum is exact, so the order does not matter."""
    defined = [value for value in values if value is not None]
    return (fsum(defined) / len(defined), len(defined)) if defined else (None, 0)


def _equal(first: float, second: float) -> bool:
    return isclose(first, second, rel_tol=TIE, abs_tol=TIE)


def _find_reason(value: float | None, ranked: Sequence[float], members: int) -> Reason | None:
    if value is None:
        return Reason(code="undefined-scores", detail="All scores of the model against other members are undefined.")
    if members == 1:
        return Reason(
            code="one-member", detail="The reference set has only one member, so there are no scores between members."
        )
    if not ranked:
        return Reason(code="no-other-means", detail="All scores between other members are undefined.")
    return None


#: Increased whenever the value of a pair of members would change.
PAIR_FORMAT_VERSION = 1

OTHER_LAYERS = (
    "The model is compared with other layers than the members among themselves. The best of more pairs of layers is larger by "
    "chance alone, so the rank is not comparable."
)

#: Values of a pair by each metric, None if undefined.
Values = tuple[float | None, ...]


@dataclass(frozen=True)
class ReferenceMembers:
    """Reference set and its members."""

    reference: ReferenceSet
    members: Sequence[EmbeddingSet]

    @property
    def names(self) -> MemberNames:
        """Ids and names of the members."""
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
    """Score a stored set against each member, and rank it among them.

    The scores equal those of separate alignments. The scores of the members against each other are computed once per content
    and options, and cached with the facts about layers.

    Parameters
    ----------
    report, cluster, device
        As in `alignment.run_alignment`.

    Raises
    ------
    Unavailable, InputError
        As in `alignment.run_alignment`.
    """
    lasting = [layer.digest for member in against.members for layer in member.layers]
    name = MemberScoresKey.of(mutual_options(options), [against.reference.digest]).address
    with open_executor(cluster) as executor, Prefetcher(graphs, name, mentions_any(lasting)) as prefetcher:
        cached = CachedGraphs(graphs, report, prefetcher)
        known = CachedFacts(_TransientFacts(cached, [layer.digest for layer in a.layers]))
        return _ReferenceRun(options, a, against, blobs, known, report, executor, device).run()


class _TransientFacts:
    """Graph source that does not cache facts about the model, since a model is scored once and each fact would be a file."""

    def __init__(self, source: CachedGraphs, digests: Sequence[str]) -> None:
        self.graph, self.matrix = source.graph, source.matrix
        self._source, self._digests = source, digests

    def fact(self, key: LazyKey, find: Callable[[], bytes]) -> bytes:
        """Compute a fact about the model; read other facts from the cache."""
        known = key()
        is_transient = any(digest in known.address for digest in self._digests)
        return find() if is_transient else self._source.fact(lambda: known, find)


@dataclass
class _ReferenceRun:
    options: ScoringOptions
    a: EmbeddingSet
    against: ReferenceMembers
    blobs: BlobStore
    graphs: GraphSource
    report: Report
    executor: Executor
    device: str
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    sides: SideCache = field(default_factory=lambda: SideCache(SIDES_BYTES))
    """Sides of the model and the members, so that values of a layer are computed once for all pairs."""
    scored: int = 0
    """Number of pairs of members that were not cached."""

    def run(self) -> ReferenceDocument:
        """Score and rank the model, and return the document."""
        reference, members = self.against.reference, self.against.members
        with self.stopwatch.time("members"):
            documents = self._score_members()
        with self.stopwatch.time("mutual"):
            mutual = self._mutual()
        return ReferenceDocument(
            a=documents[0].a,
            reference=ReferenceSummary(id=reference.id, name=reference.name, digest=reference.digest),
            n=members[0].n,
            ranks=tuple(self._rank(documents, mutual)),
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
        """Score the model against each member. The p-values are corrected later, for all members together."""
        null = self.options.null.model_copy(update={"correction": "none"})
        options, documents = self.options.model_copy(update={"null": null}), []
        model = self._open(self.a)
        for done, member in enumerate(self._sources):
            self.report("members", done, len(self._sources))
            documents.append(self._score(options, model, member))
        return documents

    def _score(self, options: ScoringOptions, a: SideSource, b: SideSource) -> ScoreDocument:
        document = score_sources(
            options, a, b, self.graphs, _ignore_progress, sides=self.sides, executor=self.executor, device=self.device
        )
        self.sides.clear_transient()
        return document

    def _open(self, embeddings: EmbeddingSet) -> SideSource:
        return open_set(embeddings, self.blobs, with_ids=self.options.pairing == "id")

    @cached_property
    def _sources(self) -> list[SideSource]:
        """Sides of the members, which every further model uses again."""
        return [replace(self._open(member), persistent=True) for member in self.against.members]

    # The members among themselves.

    @cached_property
    def _pairs(self) -> list[tuple[int, int]]:
        count = range(len(self.against.members))
        return list(combinations(count, 2) if is_mirrored(self.options) else permutations(count, 2))

    def _mutual(self) -> dict[tuple[int, int], Values]:
        """Return the values of all pairs of members in both orders. They are cached for all pairs and for each pair."""
        options = mutual_options(self.options)
        everyone = [member.digest for member in self.against.members]

        def find() -> bytes:
            return json.dumps([self._pair_values(options, pair) for pair in self._pairs]).encode()

        cached = self.graphs.fact(lambda: MemberScoresKey.of(options, everyone), find)
        values_by_pair = {pair: tuple(values) for pair, values in zip(self._pairs, json.loads(cached), strict=True)}
        return {(j, i): values for (i, j), values in values_by_pair.items()} | values_by_pair

    def _pair_values(self, options: ScoringOptions, pair: tuple[int, int]) -> Values:
        def find() -> bytes:
            self.report("pairs of members", self.scored, len(self._pairs))
            self.scored += 1
            a, b = (self._sources[each] for each in pair)
            return json.dumps([score.value for score in self._score(options, a, b).scores]).encode()

        digests = [self.against.members[each].digest for each in pair]
        return tuple(json.loads(self.graphs.fact(lambda: MemberScoresKey.of(options, digests), find)))

    # The document.

    def _rank(
        self, documents: Sequence[ScoreDocument], mutual: dict[tuple[int, int], Values]
    ) -> Iterator[ReferenceRank]:
        own = next((j for j, member in enumerate(self.against.members) if self._is_own(member)), None)
        reason = self._find_obstacle(documents)
        for metric in range(len(documents[0].scores)):
            standing = rank_model(
                [document.scores[metric] for document in documents],
                {pair: values[metric] for pair, values in mutual.items()},
                self.against.names,
                own,
            )
            yield standing if reason is None else without_rank(standing, reason)

    def _find_obstacle(self, documents: Sequence[ScoreDocument]) -> Reason | None:
        """Return the reason why the model's scores are not comparable with those between members, or None."""
        n, matched = self.against.members[0].n, min(document.n for document in documents)
        if matched == n:
            return None
        return Reason(
            code="fewer-items",
            detail=f"The model has only {matched} of the {n} items of the members, whose scores use all items.",
        )

    def _describe(self, documents: Sequence[ScoreDocument]) -> Iterator[MemberScores]:
        """Describe the scores of each member, with p-values corrected for all scores of the document."""
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


@dataclass(frozen=True)
class MemberScoresKey:
    """Key of the scores of two members, or of all pairs of more members."""

    options: str
    digests: tuple[str, ...]

    @classmethod
    def of(cls, options: ScoringOptions, digests: Sequence[str]) -> Self:
        """Return the key of members with these digests."""
        return cls(options.model_dump_json(), tuple(digests))

    @property
    def address(self) -> str:
        """Text of the key."""
        text = f"{PAIR_FORMAT_VERSION} {self.options} {' '.join(self.digests)}"
        return f"values of members {sha256(text.encode()).hexdigest()}"


def _sum_graph_use(documents: Sequence[ScoreDocument]) -> GraphUse | None:
    used = [document.graphs for document in documents if document.graphs is not None]
    if not used:
        return None
    return GraphUse(hits=sum(each.hits for each in used), misses=sum(each.misses for each in used))


def _ignore_progress(stage: str, done: int, total: int) -> None:
    """Report nothing, since the stages of one pair are short."""
