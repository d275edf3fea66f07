"""On whose behalf records are read and written, and how much they may hold."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from consilience.contract.keys import DEFAULT_OWNER


@dataclass(frozen=True)
class Access:
    """What every statement on behalf of one caller is held to.

    Another owner's rows do not exist for it: they are not found, not listed, not counted.
    """

    owner: str = DEFAULT_OWNER
    """Whose everything is that is added."""
    sees_all: bool = False
    """Whether it reads and changes the rows of every owner."""
    queue_limit: int | None = None
    """Jobs that may wait, of all owners together."""
    owner_queue_limit: int | None = None
    """Jobs that may wait, of this owner."""
    owner_bytes_limit: int | None = None
    """Bytes that this owner's sets may have."""

    def sees(self, column: sa.Column[str]) -> ColumnElement[bool]:
        """The condition on a table's `owner` under which a row exists."""
        return sa.true() if self.sees_all else column == self.owner


#: For workers, which run everybody's jobs.
EVERYTHING = Access(sees_all=True)
