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
from consilience.stores.blobs import BlobStore
from consilience.stores.checkpoints import CheckpointStore
from consilience.stores.files import exclusive_upload_lock
from consilience.stores.retention import Retention
from service.stores import STALE_S

#: A blob is this old before it goes: whoever looks at the folder meanwhile finds what it has just read of.
GRACE_S = 3600.0
#: Rows of a set that a model was making are kept so long for whoever asks for the set again.
CHECKPOINT_RETENTION_S = 24 * 3600.0
#: Rows and blobs of one transaction or one hold of the lock: nobody waits long for either.
BATCH_SIZE = 200
#: Between two tries to find a moment without an upload, and how long it is looked for.
LOCK_POLL_S = 0.05
LOCK_TIMEOUT_S = 10.0


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
        blobs: BlobStore,
        root: Path,
        job_retention: timedelta | None,
        grace_s: float = GRACE_S,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        self._retention, self._blobs, self._root = retention, blobs, root
        self._checkpoints = CheckpointStore(root)
        self._job_retention, self._grace_s, self._lock_timeout_s = job_retention, grace_s, lock_timeout_s
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
        files = self._blobs.sweep(STALE_S) + self._checkpoints.sweep(CHECKPOINT_RETENTION_S)
        return Collected(self._expire_jobs(), self._delete_blobs(), files, self._expire_cells())

    def _expire_jobs(self) -> int:
        total = 0
        while self._job_retention is not None and (gone := self._retention.expire(self._job_retention, BATCH_SIZE)):
            total += len(gone)
        return total

    def _expire_cells(self) -> int:
        """Cells of studies live as long as jobs: a study that is read again finds them again."""
        return 0 if self._job_retention is None else self._retention.expire_cells(self._job_retention)

    def _delete_blobs(self) -> int:
        digests, total = self._blobs.digests(), 0
        while batch := tuple(itertools.islice(digests, BATCH_SIZE)):
            deleted = self._delete_unnamed(batch)
            if deleted is None:  # uploads without a pause, or a backup: a later round finds a better moment
                break
            total += deleted
        return total

    def _delete_unnamed(self, digests: tuple[str, ...]) -> int | None:
        """How many of these nobody names and were deleted; None where there was no moment without an upload."""
        if not set(digests) - self._retention.find_referenced(
            digests
        ):  # no upload is held up where there is nothing to do
            return 0
        deadline = time.monotonic() + self._lock_timeout_s
        while True:
            with exclusive_upload_lock(self._root) as alone:
                if alone:
                    unnamed = set(digests) - self._retention.find_referenced(digests)
                    return sum(self._blobs.delete(digest, self._grace_s) for digest in unnamed)
            if time.monotonic() > deadline:
                return None
            time.sleep(LOCK_POLL_S)
