"""Relevance judgements: from the names that a caller knows to rows."""

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

#: What is compared with itself.
_WHOLE = MeanShare(value=1.0, low=1.0, high=1.0)
#: The streams of a seed that intervals are drawn by.
_RETAINED, _GAIN, _IMPROVEMENT = 21, 22, 23


@dataclass(frozen=True)
class StrategyScores:
    """Row scores of every way, by its name.

    Attributes
    ----------
    recall : shares of the answers of full re-embedding
    relevant : shares of the relevant documents; None without judgements
    """

    recall: Mapping[str, Float64Array]
    relevant: Mapping[str, Float64Array] | None

    @property
    def truth(self) -> Mapping[str, Float64Array]:
        """What ways are compared by."""
        return self.recall if self.relevant is None else self.relevant


def score_strategies(findings: RetrievalResults, n: int, relevant: Sequence[RowNumbers] | None) -> StrategyScores:
    """Compare every way with full re-embedding, and with the judgements where there are some."""
    wanted = findings.ways["re_embed"].ids
    recall = {name: neighbour_recall(found.ids, wanted, n) for name, found in findings.ways.items()}
    if relevant is None:
        return StrategyScores(recall, None)
    return StrategyScores(recall, {name: relevant_recall(found.ids, relevant) for name, found in findings.ways.items()})


def describe_agreement(shares: Float64Array, n: int, options: UpgradeOptions) -> NeighbourAgreement:
    """How many neighbours the documents keep."""
    return NeighbourAgreement(
        shared=estimate_mean(shares, options.level), queries=len(shares), chance=options.k / (n - 1)
    )


def describe_strategies(
    judged: StrategyScores, maps: Mapping[str, tuple[MapChoice, FitSummary]], options: UpgradeOptions
) -> tuple[Strategy, ...]:
    """Every way with its figures: full re-embedding, the old model, and those between."""
    return tuple(_describe_strategy(name, judged, maps.get(name), options) for name in judged.recall)


def _describe_strategy(
    name: str, judged: StrategyScores, fit: tuple[MapChoice, FitSummary] | None, options: UpgradeOptions
) -> Strategy:
    kind: StrategyKind = "adapt" if fit else name  # type: ignore[assignment] # the others are called by their kind
    return Strategy(
        name=name,
        kind=kind,
        map=fit[0] if fit else None,
        fitted=fit[1] if fit else None,
        recall=_WHOLE if kind == "re_embed" else estimate_mean(judged.recall[name], options.level),
        relevant_recall=None if judged.relevant is None else estimate_mean(judged.relevant[name], options.level),
        retained=_retained(name, judged, options),
        gain=_update_gain(name, judged, options) if kind in ("keep", "adapt") else None,
    )


def _retained(name: str, judged: StrategyScores, options: UpgradeOptions) -> ValueWithInterval | None:
    if judged.relevant is None:
        found = _WHOLE if name == "re_embed" else estimate_mean(judged.recall[name], options.level)
        return ValueWithInterval(value=found.value, low=found.low, high=found.high)
    return _ratio(judged.truth[name], judged.truth["re_embed"], options, _RETAINED)


def _update_gain(name: str, judged: StrategyScores, options: UpgradeOptions) -> ValueWithInterval | None:
    """The update gain of Shen et al. 2020, Towards backward-compatible representation learning, arXiv 2003.11942.

    (M(new, old) - M(old, old)) / (M(new, new) - M(old, old)): M(x, y) what queries of x find among documents of y. In its place
    of the model trained for compatibility stands the way; the new model itself is its best case.
    """
    way, old, new = (judged.truth[one] for one in (name, "old", "re_embed"))
    return _ratio(way - old, new - old, options, _GAIN)


def describe_improvement(judged: StrategyScores, options: UpgradeOptions) -> ValueWithInterval | None:
    """What full re-embedding finds of the relevant documents beyond what the old model finds."""
    if judged.relevant is None:
        return None
    return _ratio(judged.relevant["re_embed"] - judged.relevant["old"], None, options, _IMPROVEMENT)


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
    """What rows are called: by their ids, or by their numbers."""

    ids: Sequence[str] | None

    def of(self, row: int) -> str:
        """One row's name."""
        return str(row) if self.ids is None else self.ids[row]


def list_changed(
    asked: RowNumbers, old: SearchResult, new: SearchResult, *, names: tuple[RowLabels, RowLabels], n: int, count: int
) -> tuple[ChangedItem, ...]:
    """Those that ask whose answers changed most; `names` are theirs and those of the n documents."""
    shares = neighbour_recall(old.ids, new.ids, n)
    k = old.ids.shape[1]
    return tuple(
        ChangedItem(
            item=names[0].of(int(asked[place])),
            row=int(asked[place]),
            shared=round(float(shares[place]) * k),
            old=_list_neighbours(old, place, names[1]),
            new=_list_neighbours(new, place, names[1]),
        )
        for place in order_by_change(shares, asked)[:count]
    )


def _list_neighbours(answers: SearchResult, place: int, names: RowLabels) -> tuple[Neighbour, ...]:
    return tuple(
        Neighbour(item=names.of(int(row)), row=int(row), similarity=float(similarity))
        for row, similarity in zip(answers.ids[place], answers.similarities[place], strict=True)
    )


def resolve_judgements(
    qrels: Mapping[str, Sequence[ItemLabel]], queries: Sequence[str] | int, documents: Sequence[str] | int
) -> dict[int, RowNumbers]:
    """The rows of the documents that answer each judged query's row; queries without an answer are left out.

    Parameters
    ----------
    judgements : for each query the documents that answer it
    queries, documents : their ids, row by row; or how many there are, where row numbers stand for ids

    Raises
    ------
    InvalidRequest
        A name that no row has.
    """
    rows_of_query, rows_of_document = _find_rows(queries), _find_rows(documents)
    found: dict[int, RowNumbers] = {}
    for query, answers in qrels.items():
        relevant = [
            row for item in answers for row in _look_up(str(item), rows_of_document, documents, "documents", query)
        ]
        if relevant:
            unique = np.unique(np.array(relevant, np.intp))
            found |= dict.fromkeys(_look_up(query, rows_of_query, queries, "queries", query), unique)
    return found


def _find_rows(names: Sequence[str] | int) -> Mapping[str, list[int]]:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(_labels(names)):
        rows[name].append(row)
    return rows


def _labels(names: Sequence[str] | int) -> Iterable[str]:
    return map(str, range(names)) if isinstance(names, int) else names


def _look_up(name: str, rows: Mapping[str, list[int]], names: Sequence[str] | int, side: str, query: str) -> list[int]:
    if name in rows:
        return rows[name]
    known = f"rows 0 to {names - 1}, since they have no ids" if isinstance(names, int) else f"{len(names)} ids"
    raise InvalidRequest(
        f"A judgement names {quote(name)!r}, which is none of the {side}: there are {known}.",
        value=name,
        hint="Give the ids that judgements use, or leave out those of items that are not compared.",
        pointer=f"/judgements/{quote(query)}",
    )
