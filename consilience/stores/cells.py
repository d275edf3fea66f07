"""Cells of studies by what they depend on: found once, whichever study asks, and readable while a study runs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from consilience.contract.study_results import CellScore
from consilience.stores import tables
from consilience.stores.database import Database, insert_if_new

#: Addresses that one query asks for.
BATCH = 500
_cell = tables.cells.c


class Cells:
    """What each pair of sets came to under each set of options; a cell never changes, so that several writers do no harm."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, keys: Sequence[str]) -> dict[str, tuple[CellScore, ...]]:
        """Those that are there, by their addresses (`contract.studies.cell_key`)."""
        found: dict[str, tuple[CellScore, ...]] = {}
        with self._database.read() as connection:
            for batch in _batches(keys):
                rows = connection.execute(sa.select(_cell.key, _cell.scores).where(_cell.key.in_(batch)))
                found |= {key: tuple(CellScore.model_validate(score) for score in scores) for key, scores in rows}
        return found

    def count(self, keys: Sequence[str]) -> int:
        """How many of them are there."""
        with self._database.read() as connection:
            counts = (
                connection.execute(sa.select(sa.func.count()).where(_cell.key.in_(batch))).scalar() or 0
                for batch in _batches(keys)
            )
            return sum(counts)

    def add(self, found: Mapping[str, Sequence[CellScore]]) -> None:
        """Keep cells; those that are there already stay as they are.

        Raises
        ------
        Unavailable, StorageFull
        """
        now = datetime.now(UTC)
        rows = [
            {"key": key, "scores": [score.model_dump(mode="json") for score in scores], "created_at": now}
            for key, scores in found.items()
        ]
        if rows:
            with self._database.write() as connection:
                connection.execute(insert_if_new(connection, tables.cells), rows)

    def expire(self, retention: timedelta) -> int:
        """Forget cells that were found longer ago; how many."""
        with self._database.write() as connection:
            gone = connection.execute(sa.delete(tables.cells).where(_cell.created_at < datetime.now(UTC) - retention))
            return gone.rowcount


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))
