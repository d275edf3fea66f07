"""Garbage collector of expired jobs, unreferenced blobs and files left by crashes.

A blob is checked and deleted under an exclusive lock. Every upload holds the same lock, shared, from its first blob to its
record. Therefore, no blob of an upload in progress can be deleted, whatever clocks and pauses of processes do.
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

#: Minimum age in seconds of a blob that is deleted, so that a process that has just read its record can open it.
GRACE_S = 3600.0
#: Seconds for which checkpoints of an interrupted extraction are kept, so that a repeated request resumes it.
CHECKPOINT_RETENTION_S = 24 * 3600.0
#: Number of rows or blobs that are deleted in one transaction or under one lock.
BATCH_SIZE = 200
#: Seconds between two attempts to get the lock, and until the collector gives up.
LOCK_POLL_S = 0.05
LOCK_TIMEOUT_S = 10.0


class Collected(NamedTuple):
    """Number of things that one round removed."""

    jobs: int
    blobs: int
    files: int
    cells: int


class Collector:
    """Garbage collector of the records and the data folder. Several can run at the same time."""

    def __init__(  # noqa: PLR0917 - stores, then times
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
        """Run a round now and after each interval, until `stopping` is set."""
        while True:
            try:
                if any(collected := self.collect()):
                    self._log.info("collected", **collected._asdict())
            except ConsilienceError as error:
                self._log.warning("collector_waits", detail=error.detail, cause=error.value)
            except Exception:  # noqa: BLE001 - the next round may succeed; the log has the traceback
                self._log.exception("collector_fault")
            if stopping.wait(interval_s):
                return

    def collect(self) -> Collected:
        """Run one round. Raises Unavailable if a store does not respond."""
        files = self._blobs.sweep(STALE_S) + self._checkpoints.sweep(CHECKPOINT_RETENTION_S)
        return Collected(self._expire_jobs(), self._delete_blobs(), files, self._expire_cells())

    def _expire_jobs(self) -> int:
        total = 0
        while self._job_retention is not None and (gone := self._retention.expire(self._job_retention, BATCH_SIZE)):
            total += len(gone)
        return total

    def _expire_cells(self) -> int:
        """Delete cells of studies that are older than the retention of jobs."""
        return 0 if self._job_retention is None else self._retention.expire_cells(self._job_retention)

    def _delete_blobs(self) -> int:
        digests, total = self._blobs.digests(), 0
        while batch := tuple(itertools.islice(digests, BATCH_SIZE)):
            deleted = self._delete_unnamed(batch)
            if deleted is None:  # uploads or a backup hold the lock: a later round retries
                break
            total += deleted
        return total

    def _delete_unnamed(self, digests: tuple[str, ...]) -> int | None:
        """Delete unreferenced blobs and return their number, or None if the lock was not available."""
        if not set(digests) - self._retention.find_referenced(digests):  # no lock is needed if all are referenced
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
