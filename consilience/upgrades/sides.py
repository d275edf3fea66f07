"""Documents and queries of both models: pairing, the choice of queries, and the maps between the models' spaces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from consilience.contract.alignments import ItemLabel
from consilience.contract.maps import FitSummary, MapChoice
from consilience.contract.upgrades import QuerySummary, UpgradeOptions
from consilience.errors import InputError, TooFewRows, UnpairedSides
from consilience.maps.fit import TrainTestSplit, compute_sums, fit_transform
from consilience.metrics.comparison import PairedSides, Report, pair
from consilience.metrics.graph_sources import FreshGraphs
from consilience.numerics.regression.maps import Transform
from consilience.numerics.rows.parallel import Executor
from consilience.numerics.rows.sources import SideSource
from consilience.upgrades.evaluation import RowLabels, resolve_qrels
from consilience.upgrades.search import QuerySet, RowNumbers, sample_queries

#: Requested map and summary of its fit, by the name of the strategy.
FitsByStrategy = dict[str, tuple[MapChoice, FitSummary]]


@dataclass(frozen=True)
class FittedMaps:
    """Fitted maps by the name of their strategy.

    Attributes
    ----------
    transforms : weights, from the new space to the old one
    fits : requested maps and summaries of their fits
    """

    transforms: dict[str, Transform] = field(default_factory=dict)
    fits: FitsByStrategy = field(default_factory=dict)


def fit_maps(choices: Sequence[MapChoice], split: TrainTestSplit, report: Report, executor: Executor) -> FittedMaps:
    """Fit every map, in one pass over the training documents.

    Raises
    ------
    InvalidRequest
        Training diverged.
    """
    maps = FittedMaps()
    if not choices:
        return maps
    sums = compute_sums(split, report, executor)
    for name, choice in zip(name_strategies(choices), choices, strict=True):
        maps.transforms[name], fitted = fit_transform(choice, split, sums, report)
        maps.fits[name] = choice, fitted
    return maps


def name_strategies(choices: Sequence[MapChoice]) -> list[str]:
    """Name the strategy of each map: `adapt:`, the kind of map, and a number if the kind occurs again.

    Examples
    --------
    >>> from consilience.contract.maps import LowRankMap, ProcrustesMap
    >>> name_strategies([ProcrustesMap(), LowRankMap(rank=8), LowRankMap(rank=64)])
    ['adapt:procrustes', 'adapt:low_rank', 'adapt:low_rank:2']
    """
    kinds = [choice.kind for choice in choices]
    counts = [kinds[:number].count(kind) + 1 for number, kind in enumerate(kinds)]
    return [f"adapt:{kind}" + (f":{count}" if count > 1 else "") for kind, count in zip(kinds, counts, strict=True)]


#: Smallest number of queries.
QUERIES_MIN = 2


@dataclass(frozen=True)
class EvaluationQueries:
    """Queries that the strategies are evaluated with: those of the request, or held-out documents.

    Attributes
    ----------
    vectors : the queries by both models
    summary : their origin and number
    labels : labels of their rows
    relevant : rows of the relevant documents of each query; None without relevance judgments
    """

    vectors: QuerySet
    summary: QuerySummary
    labels: RowLabels
    relevant: list[RowNumbers] | None = None


def pair_models(old: SideSource, new: SideSource, by: Literal["row", "id"], what: str) -> PairedSides:
    """Pair the rows of both models by item.

    Raises
    ------
    UnpairedSides, InvalidRequest
    """
    if by == "row" and old.n != new.n:
        raise UnpairedSides(
            f"The old model has {old.n} {what} and the new model has {new.n}; row i of both must be the same item.",
            value=f"{old.n} and {new.n} rows",
            hint="Embed the same items in the same order with both models, or pair by id.",
            pointer="/new" if what == "documents" else "/queries/new",
        )
    try:
        return pair(old, new, by, FreshGraphs().fact)
    except InputError as error:
        error.detail += f" Of the {what}, a is the old model's side and b the new one's."
        error.args = (error.detail,)
        raise


@dataclass(frozen=True)
class QuerySources:
    """Queries of a request: one layer of each model, and the relevance judgments."""

    old: SideSource
    new: SideSource
    qrels: Mapping[str, Sequence[ItemLabel]] | None


def choose_given_queries(options: UpgradeOptions, documents: PairedSides, sources: QuerySources) -> EvaluationQueries:
    """Sample the queries of a request; only those with relevance judgments if there are any.

    Raises
    ------
    UnpairedSides, InvalidRequest, TooFewRows
    """
    paired = pair_models(sources.old, sources.new, options.pairing, "queries")
    (old,), (new,) = paired.a.layers, paired.b.layers
    labels = row_labels(paired)
    relevant: dict[int, RowNumbers] | None = None
    if sources.qrels is not None:
        relevant = resolve_qrels(sources.qrels, labels.ids or old.n, row_labels(documents).ids or documents.a.n)
    among = np.arange(old.n) if relevant is None else np.array(sorted(relevant), np.intp)
    if len(among) < QUERIES_MIN:
        raise TooFewRows(
            f"At least {QUERIES_MIN} queries are needed; got {len(among)} with a relevant document."
            if relevant is not None
            else f"At least {QUERIES_MIN} queries are needed; got {len(among)}.",
            value=len(among),
            limit=QUERIES_MIN,
            hint="Give more queries, or relevance judgments for more of them.",
            pointer="/queries" if relevant is None else "/qrels",
        )
    vectors = sample_queries(old, new, among, options.max_queries, options.seed)
    summary = QuerySummary(source="queries", used=len(vectors.rows), available=len(among), pairing=paired.record)
    return EvaluationQueries(
        vectors, summary, labels, None if relevant is None else [relevant[int(row)] for row in vectors.rows]
    )


def row_labels(paired: PairedSides) -> RowLabels:
    """Return the labels of paired rows."""
    return RowLabels(paired.a.ids if paired.a.ids is not None else paired.b.ids)
