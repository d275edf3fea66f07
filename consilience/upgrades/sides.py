"""Documents and queries, by both models: which row is which, and who asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from consilience.contract.alignments import ItemLabel
from consilience.contract.maps import FitSummary, MapChoice
from consilience.contract.upgrades import QuerySummary, UpgradeOptions
from consilience.errors import InputError, TooFewRows, UnpairedSides
from consilience.maps.fit import TrainTestSplit, compute_sums, fit_transform
from consilience.metrics.comparison import FreshGraphs, Report
from consilience.metrics.pairing import Paired, pair
from consilience.numerics.regression.maps import Transform
from consilience.numerics.rows.parallel import Parts
from consilience.numerics.rows.sources import SideSource
from consilience.upgrades.evaluation import RowLabels, resolve_judgements
from consilience.upgrades.search import QuerySet, RowNumbers, sample_queries

#: What was asked for and what the fit found beside the weights, by the ways' names.
FitsByStrategy = dict[str, tuple[MapChoice, FitSummary]]


@dataclass(frozen=True)
class FittedMaps:
    """Fitted maps by their ways' names.

    Attributes
    ----------
    transforms : from the new space to the old one
    fits : what was asked for, and what the fit found beside the weights
    """

    transforms: dict[str, Transform] = field(default_factory=dict)
    fits: FitsByStrategy = field(default_factory=dict)


def fit_maps(choices: Sequence[MapChoice], ground: TrainTestSplit, report: Report, parts: Parts) -> FittedMaps:
    """Fit every map on one pass over the training documents.

    Raises
    ------
    InvalidRequest
        Training diverged.
    """
    maps = FittedMaps()
    if not choices:
        return maps
    sums = compute_sums(ground, report, parts)
    for name, choice in zip(name_strategies(choices), choices, strict=True):
        maps.transforms[name], fitted = fit_transform(choice, ground, sums, report)
        maps.fits[name] = choice, fitted
    return maps


def name_strategies(choices: Sequence[MapChoice]) -> list[str]:
    """`adapt:` and the map's kind; with a number where a kind comes again.

    Examples
    --------
    >>> from consilience.contract.maps import LowRankMap, ProcrustesMap
    >>> name_maps([ProcrustesMap(), LowRankMap(rank=8), LowRankMap(rank=64)])
    ['adapt:procrustes', 'adapt:low_rank', 'adapt:low_rank:2']
    """
    kinds = [choice.kind for choice in choices]
    counts = [kinds[:place].count(kind) + 1 for place, kind in enumerate(kinds)]
    return [f"adapt:{kind}" + (f":{count}" if count > 1 else "") for kind, count in zip(kinds, counts, strict=True)]


#: Queries that a figure needs.
QUERIES_MIN = 2


@dataclass(frozen=True)
class EvaluationQueries:
    """The queries, whoever stands in for them.

    Attributes
    ----------
    asking : their vectors
    record : who they are
    names : what their rows are called
    relevant : the rows of the documents that answer each of them; None without judgements
    """

    asking: QuerySet
    record: QuerySummary
    names: RowLabels
    relevant: list[RowNumbers] | None = None


def pair_models(old: SideSource, new: SideSource, by: Literal["row", "id"], what: str) -> Paired:
    """Both models' rows of the same items.

    Raises
    ------
    UnpairedSides, InvalidRequest
    """
    if by == "row" and old.n != new.n:
        raise UnpairedSides(
            f"The old model has {old.n} {what} and the new one {new.n}; row i of both must be the same item.",
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
    """Queries as they came in: both models' sides with one layer each, and the judgements."""

    old: SideSource
    new: SideSource
    qrels: Mapping[str, Sequence[ItemLabel]] | None


def choose_given_queries(options: UpgradeOptions, documents: Paired, given: QuerySources) -> EvaluationQueries:
    """The queries that were given; those with judgements alone where there are some.

    Raises
    ------
    UnpairedSides, InvalidRequest, TooFewRows
    """
    paired = pair_models(given.old, given.new, options.pairing, "queries")
    (old,), (new,) = paired.a.layers, paired.b.layers
    names = row_labels(paired)
    relevant: dict[int, RowNumbers] | None = None
    if given.qrels is not None:
        relevant = resolve_judgements(given.qrels, names.ids or old.n, row_labels(documents).ids or documents.a.n)
    among = np.arange(old.n) if relevant is None else np.array(sorted(relevant), np.intp)
    if len(among) < QUERIES_MIN:
        raise TooFewRows(
            f"Too few queries have judgements that name a document: {len(among)}.",
            value=len(among),
            limit=QUERIES_MIN,
            hint="Judge more queries.",
            pointer="/judgements",
        )
    asking = sample_queries(old, new, among, options.max_queries, options.seed)
    record = QuerySummary(source="queries", used=len(asking.rows), available=len(among), pairing=paired.record)
    return EvaluationQueries(
        asking, record, names, None if relevant is None else [relevant[int(row)] for row in asking.rows]
    )


def row_labels(paired: Paired) -> RowLabels:
    """What the rows of both sides are called."""
    return RowLabels(paired.a.ids if paired.a.ids is not None else paired.b.ids)
