"""Relevance judgements: from the names that a caller knows to rows."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from consilience.contract.jobs import Label
from consilience.errors import InvalidRequest
from consilience.measures.upgrade_search import Places
from consilience.quoting import quote


def resolve(
    judgements: Mapping[str, Sequence[Label]], queries: Sequence[str] | int, documents: Sequence[str] | int
) -> dict[int, Places]:
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
    found: dict[int, Places] = {}
    for query, answers in judgements.items():
        relevant = [
            row for item in answers for row in _look_up(str(item), rows_of_document, documents, "documents", query)
        ]
        if relevant:
            unique = np.unique(np.array(relevant, np.intp))
            found |= dict.fromkeys(_look_up(query, rows_of_query, queries, "queries", query), unique)
    return found


def _find_rows(names: Sequence[str] | int) -> Mapping[str, list[int]]:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(_spell(names)):
        rows[name].append(row)
    return rows


def _spell(names: Sequence[str] | int) -> Iterable[str]:
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
