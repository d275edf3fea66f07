"""Those who were let in lately, for the one answer that is wanted most while the database, which has the keys, is away."""

import hashlib
import time
from datetime import UTC, datetime

from service.callers import Caller

#: So long after the database last vouched for a caller.
REMEMBERED_S = 900.0
#: The newest are kept; a service has one or two scrapers.
KEPT = 16


class Acquaintances:
    """Callers by the SHA-256 of what they showed: no token is kept."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[Caller, float]] = {}

    def note(self, authorization: str | None, caller: Caller) -> None:
        """The database has vouched for this caller now."""
        digest = _digest(authorization)
        self._seen.pop(digest, None)
        self._seen[digest] = caller, time.monotonic()
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]

    def forget(self, authorization: str | None) -> None:
        """The database has refused it: it is revoked or has expired."""
        self._seen.pop(_digest(authorization), None)

    def recall(self, authorization: str | None) -> Caller | None:
        """The caller, if that was not long ago and its key has not expired."""
        caller, seen = self._seen.get(_digest(authorization), (None, 0.0))
        if caller is None or time.monotonic() - seen > REMEMBERED_S:
            return None
        expires_at = caller.key.expires_at if caller.key else None
        return None if expires_at and expires_at <= datetime.now(UTC) else caller


def _digest(authorization: str | None) -> bytes:
    return hashlib.sha256(repr(authorization).encode()).digest()
