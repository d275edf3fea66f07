"""Scores of each strategy, the items that change most, and the resolution of relevance judgments to rows."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from consilience.contract.alignments import ItemLabel
from consilience.contract.maps import FitSummary, MapChoice, MeanShare
from consilience.contract.upgrades import (
    ChangedItem,
    Neighbour,
    NeighbourAgreement,
    Strategy,
    StrategyKind,
    UpgradeOptions,
    ValueWithInterval,
)
from consilience.errors import InvalidRequest
from consilience.maps.report import estimate_mean
from consilience.numerics.regression.evaluation import (
    neighbour_recall,
    order_by_change,
    ratio_interval,
    relevant_recall,
)
from consilience.numerics.rows.arrays import Float64Array
from consilience.quoting import quote
from consilience.upgrades.search import RetrievalResults, RowNumbers, SearchResult

#: Recall of full re-embedding against itself.
_WHOLE = MeanShare(value=1.0, low=1.0, high=1.0)
#: Streams of the seed for the bootstrap of each interval.
_RETAINED_STREAM, _GAIN_STREAM, _IMPROVEMENT_STREAM = 21, 22, 23


@dataclass(frozen=True)
class StrategyScores:
    """Scores of each query under every strategy, by the name of the strategy.

    Attributes
    ----------
    recall : share of the results of full re-embedding that the strategy retrieves
    relevant : share of the relevant documents that the strategy retrieves; None without relevance judgments
    """

    recall: Mapping[str, Float64Array]
    relevant: Mapping[str, Float64Array] | None

    @property
    def ground_truth(self) -> Mapping[str, Float64Array]:
        """Scores by which strategies are compared: of relevant documents if there are judgments, else recall."""
        return self.recall if self.relevant is None else self.relevant


def score_strategies(results: RetrievalResults, n: int, relevant: Sequence[RowNumbers] | None) -> StrategyScores:
    """Compare every strategy with full re-embedding, and with the relevance judgments if there are any."""
    wanted = results.strategies["re_embed"].ids
    recall = {name: neighbour_recall(found.ids, wanted, n) for name, found in results.strategies.items()}
    if relevant is None:
        return StrategyScores(recall, None)
    return StrategyScores(
        recall, {name: relevant_recall(found.ids, relevant) for name, found in results.strategies.items()}
    )


def describe_agreement(shares: Float64Array, n: int, options: UpgradeOptions) -> NeighbourAgreement:
    """Describe the mean share of nearest neighbours that both models have in common."""
    return NeighbourAgreement(
        shared=estimate_mean(shares, options.level), queries=len(shares), chance=options.k / (n - 1)
    )


def describe_strategies(
    scores: StrategyScores, maps: Mapping[str, tuple[MapChoice, FitSummary]], options: UpgradeOptions
) -> tuple[Strategy, ...]:
    """Describe the results of every strategy: full re-embedding, the old model, and those on the old index."""
    return tuple(_describe_strategy(name, scores, maps.get(name), options) for name in scores.recall)


def _describe_strategy(
    name: str, scores: StrategyScores, fit: tuple[MapChoice, FitSummary] | None, options: UpgradeOptions
) -> Strategy:
    kind: StrategyKind = "adapt" if fit else name  # type: ignore[assignment] # the names of the others are their kinds
    return Strategy(
        name=name,
        kind=kind,
        map=fit[0] if fit else None,
        fitted=fit[1] if fit else None,
        recall=_WHOLE if kind == "re_embed" else estimate_mean(scores.recall[name], options.level),
        relevant_recall=None if scores.relevant is None else estimate_mean(scores.relevant[name], options.level),
        retained=_retained(name, scores, options),
        gain=_update_gain(name, scores, options) if kind in ("keep", "adapt") else None,
    )


def _retained(name: str, scores: StrategyScores, options: UpgradeOptions) -> ValueWithInterval | None:
    if scores.relevant is None:
        found = _WHOLE if name == "re_embed" else estimate_mean(scores.recall[name], options.level)
        return ValueWithInterval(value=found.value, low=found.low, high=found.high)
    return _ratio(scores.ground_truth[name], scores.ground_truth["re_embed"], options, _RETAINED_STREAM)


def _update_gain(name: str, scores: StrategyScores, options: UpgradeOptions) -> ValueWithInterval | None:
    """Compute the update gain: (M(new, old) - M(old, old)) / (M(new, new) - M(old, old)).

    M(x, y) is the score of queries of model x on documents of model y; M(new, old) is the score of the strategy.

    References
    ----------
    Shen et al. 2020, Towards backward-compatible representation learning, arXiv 2003.11942. There, M(new, old) is the score of
    a model trained for compatibility.
    """
    strategy, old, new = (scores.ground_truth[one] for one in (name, "old", "re_embed"))
    return _ratio(strategy - old, new - old, options, _GAIN_STREAM)


def describe_improvement(scores: StrategyScores, options: UpgradeOptions) -> ValueWithInterval | None:
    """Describe the share of relevant documents that full re-embedding retrieves, minus the share of the old model."""
    if scores.relevant is None:
        return None
    return _ratio(scores.relevant["re_embed"] - scores.relevant["old"], None, options, _IMPROVEMENT_STREAM)


def _ratio(
    above: Float64Array, below: Float64Array | None, options: UpgradeOptions, stream: int
) -> ValueWithInterval | None:
    seed = int(np.random.default_rng([options.seed, stream]).integers(2**63))
    bounds = ratio_interval(above, below, options.level, seed)
    if bounds is None:
        return None
    value = float(above.mean()) / (1.0 if below is None else float(below.mean()))
    return ValueWithInterval(value=value, low=min(value, bounds.low), high=max(value, bounds.high))


@dataclass(frozen=True)
class RowLabels:
    """Labels of rows: their ids, or their numbers if there are no ids."""

    ids: Sequence[str] | None

    def of(self, row: int) -> str:
        """Return the label of one row."""
        return str(row) if self.ids is None else self.ids[row]


def list_changed(
    queries: RowNumbers,
    old: SearchResult,
    new: SearchResult,
    *,
    labels: tuple[RowLabels, RowLabels],
    n: int,
    count: int,
) -> tuple[ChangedItem, ...]:
    """List the queries whose results change most; `labels` are those of the queries and of the n documents."""
    shares = neighbour_recall(old.ids, new.ids, n)
    k = old.ids.shape[1]
    return tuple(
        ChangedItem(
            item=labels[0].of(int(queries[position])),
            row=int(queries[position]),
            shared=round(float(shares[position]) * k),
            old=_list_neighbours(old, position, labels[1]),
            new=_list_neighbours(new, position, labels[1]),
        )
        for position in order_by_change(shares, queries)[:count]
    )


def _list_neighbours(result: SearchResult, position: int, labels: RowLabels) -> tuple[Neighbour, ...]:
    return tuple(
        Neighbour(item=labels.of(int(row)), row=int(row), similarity=float(similarity))
        for row, similarity in zip(result.ids[position], result.similarities[position], strict=True)
    )


def resolve_qrels(
    qrels: Mapping[str, Sequence[ItemLabel]], queries: Sequence[str] | int, documents: Sequence[str] | int
) -> dict[int, RowNumbers]:
    """Find the rows of each query's relevant documents; queries without relevant documents are left out.

    Parameters
    ----------
    qrels : relevant documents of each query
    queries, documents : ids of all rows; or the number of rows, whose row numbers then serve as ids

    Raises
    ------
    InvalidRequest
        An id that no row has.
    """
    rows_of_query, rows_of_document = _find_rows(queries), _find_rows(documents)
    found: dict[int, RowNumbers] = {}
    for query, items in qrels.items():
        relevant = [
            row for item in items for row in _look_up(str(item), rows_of_document, documents, "documents", query)
        ]
        if relevant:
            unique = np.unique(np.array(relevant, np.intp))
            found |= dict.fromkeys(_look_up(query, rows_of_query, queries, "queries", query), unique)
    return found


def _find_rows(ids: Sequence[str] | int) -> Mapping[str, list[int]]:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(_labels(ids)):
        rows[name].append(row)
    return rows


def _labels(ids: Sequence[str] | int) -> Iterable[str]:
    return map(str, range(ids)) if isinstance(ids, int) else ids


def _look_up(label: str, rows: Mapping[str, list[int]], ids: Sequence[str] | int, side: str, query: str) -> list[int]:
    if label in rows:
        return rows[label]
    known = f"{ids} rows, numbered from 0, and no ids" if isinstance(ids, int) else f"{len(ids)} ids"
    raise InvalidRequest(
        f"A relevance judgment names {quote(label)!r}, but no row of the {side} has this id; there are {known}.",
        value=label,
        hint=f"Pass the ids of the {side}, or leave out judgments of items that are not compared.",
        pointer=f"/qrels/{quote(query)}",
    )
