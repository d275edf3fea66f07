"""Removes what is no longer kept: jobs after their retention, blobs that no record names, what crashes left.

A blob is looked up in the records and removed under the lock that every upload holds from its first blob to its record, so
that there is no moment at which one is neither named nor about to be: neither clocks nor pauses of a process matter.
"""

import itertools
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import structlog

from consilience.errors import ConsilienceError
from consilience.stores.blobs import Blobs
from consilience.stores.checkpoints import Partials
from consilience.stores.files import no_uploads
from consilience.stores.retention import Retention
from service.stores import STALE_S

#: A blob is this old before it goes: whoever looks at the folder meanwhile finds what it has just read of.
GRACE_S = 3600.0
#: Rows of a set that a model was making are kept so long for whoever asks for the set again.
UNFINISHED_S = 24 * 3600.0
#: Rows and blobs of one transaction or one hold of the lock: nobody waits long for either.
BATCH = 200
#: Between two tries to find a moment without an upload, and how long it is looked for.
LOCK_POLL_S = 0.05
LOCK_PATIENCE_S = 10.0


class Collected(NamedTuple):
    """What one round removed."""

    jobs: int
    blobs: int
    files: int
    cells: int


class Collector:
    """Rounds over the records and the data folder. Several at once do no harm."""

    def __init__(  # noqa: PLR0917 - what it looks at, then how patiently
        self,
        retention: Retention,
        blobs: Blobs,
        root: Path,
        job_retention: timedelta | None,
        grace_s: float = GRACE_S,
        patience_s: float = LOCK_PATIENCE_S,
    ) -> None:
        self._retention, self._blobs, self._root = retention, blobs, root
        self._partials = Partials(root)
        self._job_retention, self._grace_s, self._patience_s = job_retention, grace_s, patience_s
        self._log = structlog.get_logger()

    def run(self, stopping: threading.Event, interval_s: float) -> None:
        """A round now and one after each interval, until told to stop."""
        while True:
            try:
                if any(collected := self.collect()):
                    self._log.info("collected", **collected._asdict())
            except ConsilienceError as error:
                self._log.warning("collector_waits", detail=error.detail, cause=error.value)
            except Exception:  # noqa: BLE001 - the next round may fare better; the log has the trace
                self._log.exception("collector_fault")
            if stopping.wait(interval_s):
                return

    def collect(self) -> Collected:
        """One round. Raises Unavailable where a store does not answer."""
        files = self._blobs.sweep(STALE_S) + self._partials.sweep(UNFINISHED_S)
        return Collected(self._expire_jobs(), self._delete_blobs(), files, self._expire_cells())

    def _expire_jobs(self) -> int:
        total = 0
        while self._job_retention is not None and (gone := self._retention.expire(self._job_retention, BATCH)):
            total += len(gone)
        return total

    def _expire_cells(self) -> int:
        """Cells of studies live as long as jobs: a study that is read again finds them again."""
        return 0 if self._job_retention is None else self._retention.expire_cells(self._job_retention)

    def _delete_blobs(self) -> int:
        digests, total = self._blobs.digests(), 0
        while batch := tuple(itertools.islice(digests, BATCH)):
            deleted = self._delete_unnamed(batch)
            if deleted is None:  # uploads without a pause, or a backup: a later round finds a better moment
                break
            total += deleted
        return total

    def _delete_unnamed(self, digests: tuple[str, ...]) -> int | None:
        """How many of these nobody names and were deleted; None where there was no moment without an upload."""
        if not set(digests) - self._retention.named(digests):  # no upload is held up where there is nothing to do
            return 0
        deadline = time.monotonic() + self._patience_s
        while True:
            with no_uploads(self._root) as alone:
                if alone:
                    unnamed = set(digests) - self._retention.named(digests)
                    return sum(self._blobs.delete(digest, self._grace_s) for digest in unnamed)
            if time.monotonic() > deadline:
                return None
            time.sleep(LOCK_POLL_S)
