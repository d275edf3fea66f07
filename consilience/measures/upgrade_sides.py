"""Documents and queries, by both models: which row is which, and who asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from consilience.contract.jobs import Label
from consilience.contract.upgrade_reports import Queries
from consilience.contract.upgrades import UpgradeOptions
from consilience.errors import InputError, TooFewRows, UnpairedSides
from consilience.measures.comparison import FreshGraphs
from consilience.measures.pairing import Paired, pair
from consilience.measures.upgrade_figures import Names
from consilience.measures.upgrade_judgements import resolve
from consilience.measures.upgrade_search import Asking, Places, draw_queries
from consilience.numerics.sources import Source

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
