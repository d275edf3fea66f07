"""Reconciler of the queue and the workers with the database, which is the source of truth.

* A running job without a heartbeat for 6 s, by this process's own clock, has lost its worker and is queued again.
* A queued job whose message has been missing from Redis for 3 s is sent again.

Each cycle reads the database once and Redis once, and changes rows only by conditional updates. Therefore, any number of
reconcilers can run at the same time.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import structlog

from consilience.contract.jobs import JobStatus, QueueName
from consilience.errors import ConsilienceError, JobCrashed, Unavailable
from consilience.stores.leases import ActiveJob, Leases, describe_failure
from consilience.stores.queue import JobQueue, Message

#: Number of messages that are sent again at once.
BATCH_SIZE = 500


@dataclass(frozen=True)
class ReconcilerTiming:
    """Intervals and limits of the reconciler."""

    interval_s: float = 1.0
    lease_s: float = 6.0
    """Seconds without a heartbeat after which a worker has lost its job."""
    missing_s: float = 3.0
    """Seconds after which a message that is neither queued nor claimed counts as lost."""
    max_crashes: int = 3
    job_timeout_s: float = 3600.0


class DurationTracker:
    """Durations for which things have been present without a change."""

    def __init__(self) -> None:
        self._since: dict[Hashable, float] = {}

    def update(self, things: Iterable[Hashable], now: float) -> None:
        """Record the things that are present now and remove all others."""
        self._since = {thing: self._since.get(thing, now) for thing in things}

    def duration(self, thing: Hashable, now: float) -> float:
        """Return the seconds for which the thing has been present."""
        return now - self._since[thing]


class Reconciler:
    """Thread that recovers jobs after crashes and lost messages."""

    def __init__(self, leases: Leases, queue: JobQueue, timing: ReconcilerTiming | None = None) -> None:
        self._leases = leases
        self._queue = queue
        self._timing = timing or ReconcilerTiming()
        self._silent, self._missing = DurationTracker(), DurationTracker()
        self._clock, self._last_look = 0.0, time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reconciler", daemon=True)
        self._log = structlog.get_logger()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the cycle in progress."""
        self._stopping.set()
        self._thread.join()

    def cycle(self) -> None:
        """Run one cycle. Raises Unavailable if the database or Redis does not respond."""
        now = self._tick()
        # Rows are read first, so that a message sent between the two reads does not seem to be missing.
        active = self._leases.find_active()
        self._take_from_silent([each for each in active if each.status is JobStatus.RUNNING], now)
        self._deliver_missing([each for each in active if each.status is JobStatus.QUEUED], now)

    def _tick(self) -> float:
        """Advance the clock. A pause of the whole process counts as one cycle, because the workers may have paused too."""
        now = time.monotonic()
        self._clock += min(now - self._last_look, 2 * self._timing.interval_s)
        self._last_look = now
        return self._clock

    def _take_from_silent(self, running: list[ActiveJob], now: float) -> None:
        self._silent.update(running, now)
        for job in running:
            if self._silent.duration(job, now) >= self._timing.lease_s:
                problem = describe_failure(_lost_worker(job, self._timing.lease_s))
                new = self._leases.lost(job, problem, self._timing.max_crashes)
                self._log_loss(job, new)
                self._push(job, new)

    def _deliver_missing(self, queued: list[ActiveJob], now: float) -> None:
        if queued:
            waiting = self._queue.waiting()
            queued = [each for each in queued if (each.job_id, each.delivery) not in waiting]
        self._missing.update(queued, now)
        overdue = [each for each in queued if self._missing.duration(each, now) >= self._timing.missing_s]
        for queue in dict.fromkeys(each.queue for each in overdue):
            gone = [(each.job_id, each.delivery) for each in overdue if each.queue == queue]
            for start in range(0, len(gone), BATCH_SIZE):
                self._redeliver(gone[start : start + BATCH_SIZE], queue)

    def _redeliver(self, gone: list[Message], queue: QueueName) -> None:
        messages = self._leases.redeliver(gone)
        if not messages:  # another reconciler was first
            return
        for job_id, delivery in messages:
            self._log.warning("job_requeued", job=job_id, delivery=delivery, reason="message_lost")
        try:
            self._queue.push_all(messages, self._timing.job_timeout_s, queue)
        except Unavailable as error:  # a later cycle will find the messages missing
            self._log.warning("push_failed", jobs=len(messages), cause=error.value)

    def _log_loss(self, job: ActiveJob, new: int | None) -> None:
        """Log the loss, unless another reconciler was first or the worker has sent a heartbeat."""
        log = self._log.bind(job=job.job_id)
        ended = None if new else self._leases.status(job.job_id, job.delivery)
        if new is None and ended not in {JobStatus.FAILED, JobStatus.CANCELED}:
            return
        log.error("job_crashed", delivery=job.delivery, death="the worker stopped responding")
        event = f"job_{ended or 'requeued'}"
        log.warning(event, delivery=new or job.delivery, reason="crashed")

    def _push(self, job: ActiveJob, delivery: int | None) -> None:
        if delivery is not None:
            try:
                self._queue.push(job.job_id, delivery, self._timing.job_timeout_s, job.queue)
            except Unavailable as error:  # a later cycle will find the message missing
                self._log.warning("push_failed", job=job.job_id, delivery=delivery, cause=error.value)

    def _watch(self) -> None:
        # The first cycle runs at once, because durations count from it: a restart of the API adds no delay.
        self._guarded(self.cycle)
        while not self._stopping.wait(self._timing.interval_s):
            self._guarded(self.cycle)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except ConsilienceError as error:
            self._log.warning("reconciler_waits", detail=error.detail, cause=error.value)
        except Exception:  # noqa: BLE001 - the thread must outlive any fault; the log has the trace
            self._log.exception("reconciler_fault")


def _lost_worker(job: ActiveJob, lease_s: float) -> JobCrashed:
    return JobCrashed(
        "The job's worker stopped responding too often.",
        value=f"delivery {job.delivery}",
        limit=f"{lease_s:g} s without a heartbeat",
        hint="Check the logs of the workers, or request a smaller job.",
    )
