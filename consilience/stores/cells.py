"""Cells of studies, keyed by the hash of their inputs. Every study reuses them, also while another one runs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from consilience.contract.study_results import CellScore
from consilience.stores import tables
from consilience.stores.database import Database, insert_if_new

#: Number of keys per query.
BATCH = 500
_cell = tables.cells.c


class CellRecords:
    """Scores of pairs of sets under given options. A cell never changes, so concurrent writers are harmless."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, keys: Sequence[str]) -> dict[str, tuple[CellScore, ...]]:
        """Return the existing cells among these keys (see `contract.studies.cell_key`)."""
        cells: dict[str, tuple[CellScore, ...]] = {}
        with self._database.read() as connection:
            for batch in _batches(keys):
                rows = connection.execute(sa.select(_cell.key, _cell.scores).where(_cell.key.in_(batch)))
                cells |= {key: tuple(CellScore.model_validate(score) for score in scores) for key, scores in rows}
        return cells

    def count(self, keys: Sequence[str]) -> int:
        """Return the number of existing cells among these keys."""
        with self._database.read() as connection:
            counts = (
                connection.execute(sa.select(sa.func.count()).where(_cell.key.in_(batch))).scalar() or 0
                for batch in _batches(keys)
            )
            return sum(counts)

    def add(self, cells: Mapping[str, Sequence[CellScore]]) -> None:
        """Store cells. Existing ones stay unchanged.

        Raises
        ------
        Unavailable, StorageFull
        """
        now = datetime.now(UTC)
        rows = [
            {"key": key, "scores": [score.model_dump(mode="json") for score in scores], "created_at": now}
            for key, scores in cells.items()
        ]
        if rows:
            with self._database.write() as connection:
                connection.execute(insert_if_new(connection, tables.cells), rows)

    def expire(self, retention: timedelta) -> int:
        """Delete cells older than `retention`. Return their number."""
        with self._database.write() as connection:
            deleted = connection.execute(
                sa.delete(tables.cells).where(_cell.created_at < datetime.now(UTC) - retention)
            )
            return deleted.rowcount


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))
