"""Documents and queries, by both models: which row is which, and who asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from consilience.contract.alignments import Label
from consilience.contract.maps import Fitted, MapChoice
from consilience.contract.upgrades import Queries, UpgradeOptions
from consilience.errors import InputError, TooFewRows, UnpairedSides
from consilience.maps.fit import Ground, fit_map, sum_up
from consilience.metrics.comparison import FreshGraphs, Report
from consilience.metrics.pairing import Paired, pair
from consilience.numerics.regression.maps import Transform
from consilience.numerics.rows.parallel import Parts
from consilience.numerics.rows.sources import Source
from consilience.upgrades.evaluation import Names, resolve
from consilience.upgrades.search import Asking, Places, draw_queries

#: What was asked for and what the fit found beside the weights, by the ways' names.
Fits = dict[str, tuple[MapChoice, Fitted]]


@dataclass(frozen=True)
class Maps:
    """Fitted maps by their ways' names.

    Attributes
    ----------
    transforms : from the new space to the old one
    fits : what was asked for, and what the fit found beside the weights
    """

    transforms: dict[str, Transform] = field(default_factory=dict)
    fits: Fits = field(default_factory=dict)


def fit_maps(choices: Sequence[MapChoice], ground: Ground, report: Report, parts: Parts) -> Maps:
    """Fit every map on one pass over the training documents.

    Raises
    ------
    InvalidRequest
        Training diverged.
    """
    maps = Maps()
    if not choices:
        return maps
    sums = sum_up(ground, report, parts)
    for name, choice in zip(name_maps(choices), choices, strict=True):
        maps.transforms[name], fitted = fit_map(choice, ground, sums, report)
        maps.fits[name] = choice, fitted
    return maps


def name_maps(choices: Sequence[MapChoice]) -> list[str]:
    """`adapt:` and the map's kind; with a number where a kind comes again.

    Examples
    --------
    >>> from consilience.contract.maps import LowRank, ProcrustesMap
    >>> name_maps([ProcrustesMap(), LowRank(rank=8), LowRank(rank=64)])
    ['adapt:procrustes', 'adapt:low_rank', 'adapt:low_rank:2']
    """
    kinds = [choice.kind for choice in choices]
    counts = [kinds[:place].count(kind) + 1 for place, kind in enumerate(kinds)]
    return [f"adapt:{kind}" + (f":{count}" if count > 1 else "") for kind, count in zip(kinds, counts, strict=True)]


#: Queries that a figure needs.
QUERIES_MIN = 2


@dataclass(frozen=True)
class Asked:
    """The queries, whoever stands in for them.

    Attributes
    ----------
    asking : their vectors
    record : who they are
    names : what their rows are called
    relevant : the rows of the documents that answer each of them; None without judgements
    """

    asking: Asking
    record: Queries
    names: Names
    relevant: list[Places] | None = None


def pair_models(old: Source, new: Source, by: Literal["row", "id"], what: str) -> Paired:
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
class Given:
    """Queries as they came in: both models' sides with one layer each, and the judgements."""

    old: Source
    new: Source
    judgements: Mapping[str, Sequence[Label]] | None


def draw_given(options: UpgradeOptions, documents: Paired, given: Given) -> Asked:
    """The queries that were given; those with judgements alone where there are some.

    Raises
    ------
    UnpairedSides, InvalidRequest, TooFewRows
    """
    paired = pair_models(given.old, given.new, options.pairing, "queries")
    (old,), (new,) = paired.a.layers, paired.b.layers
    names = names_of(paired)
    relevant: dict[int, Places] | None = None
    if given.judgements is not None:
        relevant = resolve(given.judgements, names.ids or old.n, names_of(documents).ids or documents.a.n)
    among = np.arange(old.n) if relevant is None else np.array(sorted(relevant), np.intp)
    if len(among) < QUERIES_MIN:
        raise TooFewRows(
            f"Too few queries have judgements that name a document: {len(among)}.",
            value=len(among),
            limit=QUERIES_MIN,
            hint="Judge more queries.",
            pointer="/judgements",
        )
    asking = draw_queries(old, new, among, options.sample, options.seed)
    record = Queries(source="queries", asked=len(asking.rows), available=len(among), pairing=paired.record)
    return Asked(asking, record, names, None if relevant is None else [relevant[int(row)] for row in asking.rows])


def names_of(paired: Paired) -> Names:
    """What the rows of both sides are called."""
    return Names(paired.a.ids if paired.a.ids is not None else paired.b.ids)
