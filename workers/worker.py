"""Worker: fetches messages from RQ, starts a child process for each job, and monitors it.

RQ only carries the messages. Its registries, retries, callbacks, webhooks and commands are not used, and their fields are
not read: a message can name an existing job, but no code to run.
"""

import contextlib
import math
import secrets
import socket
import time
import zlib
from collections.abc import Callable
from typing import Any, Self

import stamina
import structlog
from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue, Worker
from rq.exceptions import NoSuchJobError, StopRequested
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer
from rq.worker.base import WorkerStatus

from consilience.contract.jobs import JobStatus
from consilience.errors import JobCrashed, JobError, JobOutOfMemory, JobTimedOut, Unavailable
from consilience.stores.database import Database
from consilience.stores.leases import Leases, describe_failure
from consilience.stores.queue import TASK, JobQueue, Message, connect, parse_message
from workers.attempts import UNAVAILABLE, AttemptRunner, Task, Tracing
from workers.child import ChildProcess, ProcessExit, RunDecision, RunMonitor, freeze_memory
from workers.settings import WorkerSettings

#: Retries of requests to Redis, for about two minutes. Afterwards the worker exits, and its supervisor may restart it.
REDIS_BACKOFF_S = (0.1, 1.0)
REDIS_TRIES = 120
#: Seconds after which RQ considers a silent worker dead. A fetch waits for a message for 15 s less.
WORKER_TTL_S = 20
NAME_LENGTH_MAX = 64


#: Called in the parent process before the fork for a job, with its id. It must not raise.
BeforeFork = Callable[[str], None]


class QueueMessage(RqJob):
    """RQ job of which only the message and the time limit are read."""

    @classmethod
    def fetch(cls, id: str, connection: Redis | None = None, serializer: Any = None) -> Self:  # noqa: A002 - RQ's name
        """Read a job. Raise NoSuchJobError if it cannot be read."""
        try:
            job = super().fetch(id, connection, serializer)
        except (RedisError, NoSuchJobError):
            raise
        except Exception as error:
            structlog.get_logger().warning("message_unreadable", message=id)
            raise NoSuchJobError(id) from error
        assert isinstance(job, cls)  # noqa: S101 - RQ's annotation is too wide
        return job

    def restore(self, raw_data: dict[bytes, bytes]) -> None:
        """Read the fields of a job that are used."""
        self.data = raw_data[b"data"]
        with contextlib.suppress(zlib.error):
            self.data = zlib.decompress(self.data)
        self.func_name  # noqa: B018 - the property reads the rest of the message
        self.timeout = int(raw_data[b"timeout"])

    def read(self) -> Message | None:
        """Return the message, or None if it calls anything but the one task."""
        message = parse_message(self.id)
        call = (self.func_name, list(self.args), self.kwargs, self.instance)
        return message if message and call == (TASK, list(message), {}, None) else None


class JobWorker(Worker):
    """RQ worker whose jobs are in the database.

    Parameters
    ----------
    settings : Settings
        Settings of the worker.
    database : Database
        Database with the jobs. It has no open connection during a fork.
    task : Task
        Function that runs a job.
    before_fork : callable, optional
        Called in the parent process before it forks for a job.
    """

    job_class = QueueMessage

    def __init__(
        self, settings: WorkerSettings, database: Database, task: Task, before_fork: BeforeFork | None = None
    ) -> None:
        base_s, cap_s = REDIS_BACKOFF_S
        redis_url = settings.redis_url.get_secret_value()
        retry = Retry(ExponentialWithJitterBackoff(base=base_s, cap=cap_s), REDIS_TRIES)
        super().__init__(
            [settings.queue],
            name=_make_name(),
            connection=connect(redis_url, retry=retry, timeout_s=WORKER_TTL_S),
            worker_ttl=WORKER_TTL_S,
            serializer=JSONSerializer,
            log_job_description=False,
        )
        self._settings = settings
        self._database = database
        self._before_fork = before_fork
        self._leases = Leases(database)
        self._tracing = Tracing(settings.queue, self._leases.traceparent)
        self._attempts = AttemptRunner(self._leases, task, self.name, self._tracing)
        self._jobs = JobQueue(redis_url)
        self._retrying = stamina.RetryingCaller(attempts=None, timeout=settings.lease_s, wait_max=1.0).on(UNAVAILABLE)
        self._busy = False
        self._stop_at = math.inf

    def execute_job(self, job: RqJob, queue: Queue) -> None:
        """Run the job in a child process and monitor it to its end."""
        self._delete_message(job, queue)
        self._busy = True
        message = job.read() if isinstance(job, QueueMessage) else None
        if message is None:
            structlog.get_logger().warning("message_refused", message=job.id, function=job.func_name)
        else:
            self._supervise(message, min(float(job.timeout or math.inf), self._settings.job_timeout_s))
        self._busy = False
        if self._stop_requested:  # RQ would first write to Redis, which may be unavailable for minutes
            raise StopRequested

    def request_stop(self, signum: int, frame: object) -> None:  # noqa: ARG002 - a signal handler's signature
        """Stop soon. A running job may finish within the grace period; a second signal ends it at once."""
        grace_s = 0.0 if self._stop_requested else self._settings.stop_grace_s
        self._stop_at = time.monotonic() + grace_s
        self._stop_requested = True
        if not self._busy:
            raise StopRequested

    @property
    def stopped_on_request(self) -> bool:
        """True if a signal stopped the worker, and not a fault."""
        return self._stop_requested

    def subscribe(self) -> None:
        """Accept no commands from Redis. Cancellation comes from the database, and a fork is safer without threads."""

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """False: the reconciler does the maintenance, and RQ would call functions that Redis names."""
        return False

    def delete_fetched_messages(self) -> None:
        """Delete the messages that dead workers had fetched. The reconciler sends new ones."""
        self.connection.delete(*(queue.intermediate_queue_key for queue in self.queues))

    def teardown(self) -> None:
        """Unregister from Redis if it responds, and close all connections."""
        self.connection.set_retry(Retry(NoBackoff(), 0))
        with contextlib.suppress(RedisError, OSError):
            self.register_death()  # type: ignore[no-untyped-call]  # RQ is only partly annotated
        self._jobs.close()
        self._database.close()

    def _delete_message(self, job: RqJob, queue: Queue) -> None:
        """Delete a fetched message from Redis. From now on the database has the state of the job."""
        with self.connection.pipeline() as pipeline:
            self.set_state(WorkerStatus.BUSY, pipeline=pipeline)
            pipeline.lrem(queue.intermediate_queue_key, 1, job.id)
            pipeline.delete(job.key)
            pipeline.execute()

    def _supervise(self, message: Message, timeout_s: float) -> None:
        if self._before_fork is not None:
            self._before_fork(message[0])
        self._database.close()
        log, began, began_ns = structlog.get_logger().bind(job=message[0]), time.monotonic(), time.time_ns()
        child = ChildProcess(lambda: self._attempts.run(message))
        beat_s, lease_s = self._settings.beat_s, self._settings.lease_s
        monitor = RunMonitor(self._leases, message, timeout_s=timeout_s, beat_s=beat_s, lease_s=lease_s)
        while (process_exit := child.wait(monitor.seconds_to_next_check(self._stop_at))) is None:
            decision = monitor.decide(self._stop_at)
            if decision is not RunDecision.CONTINUE:
                child.kill()
                log = log.bind(seconds=round(time.monotonic() - began, 3))
                log.warning("job_stopped", delivery=message[1], reason=decision.name)
                self._end_run(message, decision, timeout_s, log)
                self._tracing.record_end(message, began_ns, decision.name.lower())
                return
        if process_exit.status != 0:
            log = log.bind(seconds=round(time.monotonic() - began, 3))
            self._record_crash(message, process_exit, log)
            self._tracing.record_end(message, began_ns, "crashed")

    def _end_run(self, message: Message, decision: RunDecision, timeout_s: float, log: structlog.BoundLogger) -> None:
        """Record in the database why the run was stopped. This changes nothing if the run has just ended by itself."""
        if decision is RunDecision.CANCEL:
            if self._commit(self._leases.canceled, *message):
                log.info("job_canceled", delivery=message[1])
        elif decision is RunDecision.TIMED_OUT:
            error = JobTimedOut(
                f"The job exceeded its time limit of {timeout_s:g} s.",
                limit=f"{timeout_s:g} s",
                hint="Compare fewer rows or layers, or raise CONSILIENCE_JOB_TIMEOUT_S.",
            )
            if self._commit(self._leases.fail, *message, describe_failure(error)):
                log.info("job_failed", delivery=message[1], error=error.code)
        elif decision is RunDecision.HAND_BACK:
            new = self._commit(self._leases.hand_back, *message)
            self._log_next(log, message, new, "handed_back", JobStatus.CANCELED)
            self._push(message[0], new)

    def _record_crash(self, message: Message, process_exit: ProcessExit, log: structlog.BoundLogger) -> None:
        log.error("job_crashed", delivery=message[1], exit=str(process_exit))
        problem = describe_failure(_explain(process_exit))
        new = self._commit(self._leases.crashed, *message, problem, self._settings.max_crashes)
        self._log_next(log, message, new, "crashed", JobStatus.CANCELED, JobStatus.FAILED)
        self._push(message[0], new)

    def _log_next(
        self, log: structlog.BoundLogger, message: Message, new: int | None, reason: str, *ends: JobStatus
    ) -> None:
        """Log if a job without a result was queued again, or which of the statuses `ends` it has."""
        if new is not None:
            log.warning("job_requeued", delivery=new, reason=reason)
        elif (status := self._commit(self._leases.status, *message)) in ends:
            event = f"job_{status}"
            log.warning(event, delivery=message[1], reason=reason)

    def _commit(self, change: Callable[..., Any], *arguments: object) -> Any:
        try:
            return self._retrying(change, *arguments)
        except UNAVAILABLE as error:  # the lease expires by itself
            structlog.get_logger().error("end_not_recorded", job=arguments[0], cause=error.value)
            return None

    def _push(self, job_id: str, delivery: int | None) -> None:
        if delivery is not None:
            try:
                self._jobs.push(job_id, delivery, self._settings.job_timeout_s, self._settings.queue)
            except Unavailable:  # the reconciler will send the message
                structlog.get_logger().warning("push_failed", job=job_id, delivery=delivery)


def serve(settings: WorkerSettings, database: Database, task: Task, before_fork: BeforeFork | None = None) -> int:
    """Run jobs until a signal arrives. Return the exit status: 0 after a signal, 1 after a fault."""
    database.wait_for_schema(settings.schema_timeout_s)
    worker = JobWorker(settings, database, task, before_fork)
    structlog.get_logger().info("worker_ready", worker=worker.name, queue=settings.queue, threads=settings.threads)
    worker.delete_fetched_messages()
    freeze_memory()
    worker.work(logging_level="WARNING")
    return 0 if worker.stopped_on_request else 1


def _make_name() -> str:
    """Return a unique name, since RQ refuses to start a worker under a name that it remembers."""
    return f"{socket.gethostname()[:NAME_LENGTH_MAX]}-{secrets.token_hex(4)}"


def _explain(process_exit: ProcessExit) -> JobError:
    if process_exit.out_of_memory:
        return JobOutOfMemory(
            "The system killed the process of the job because memory ran out.",
            value=f"{process_exit.peak_bytes} bytes resident",
            hint="Compare fewer rows or layers, or run the worker with more memory.",
        )
    return JobCrashed(
        "The process of the job crashed too often.",
        value=str(process_exit),
        hint="See the log of the worker. A smaller job may succeed.",
    )
