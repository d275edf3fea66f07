"""The worker: fetches messages from RQ, gives each job a process of its own, and watches over it.

RQ carries the messages and nothing else. Its registries, retries, callbacks, webhooks and commands are not used, and
none of their fields is even read: whoever can write to Redis can name a job that exists, and no code to run.
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
from workers.attempts import AWAY, Attempts, Task, Tracing
from workers.child import Death, Horse, Verdict, Watch, freeze_memory
from workers.settings import Settings

#: An outage of Redis is waited out for about two minutes; then the supervisor may start a new worker.
REDIS_BACKOFF_S = (0.1, 1.0)
REDIS_TRIES = 120
#: A fetch that finds nothing returns after 15 s less than this.
WORKER_TTL_S = 20
NAME_LENGTH_MAX = 64


#: What the parent imports for a job, by its id, so that the fork starts with it; it raises nothing.
Prepare = Callable[[str], None]


class Parcel(RqJob):
    """An RQ job of which only the message and the time limit are read."""

    @classmethod
    def fetch(cls, id: str, connection: Redis | None = None, serializer: Any = None) -> Self:  # noqa: A002 - RQ's name
        """Read a job; one that cannot be read is as good as gone."""
        try:
            found = super().fetch(id, connection, serializer)
        except (RedisError, NoSuchJobError):
            raise
        except Exception as error:
            structlog.get_logger().warning("message_unreadable", message=id)
            raise NoSuchJobError(id) from error
        assert isinstance(found, cls)  # noqa: S101 - RQ's annotation is wider than what it does
        return found

    def restore(self, raw_data: dict[bytes, bytes]) -> None:
        """Read what we use of a job's fields."""
        self.data = raw_data[b"data"]
        with contextlib.suppress(zlib.error):
            self.data = zlib.decompress(self.data)
        self.func_name  # noqa: B018 - reads the rest of the message, or fails to
        self.timeout = int(raw_data[b"timeout"])

    def read(self) -> Message | None:
        """The message; None where it asks for anything but the one task."""
        message = parse_message(self.id)
        asked = (self.func_name, list(self.args), self.kwargs, self.instance)
        return message if message and asked == (TASK, list(message), {}, None) else None


class JobWorker(Worker):
    """An RQ worker whose jobs live in the database.

    Parameters
    ----------
    settings : Settings
        What the operator decided.
    database : Database
        Where the jobs are. No connection of it is open during a fork.
    task : Task
        What a job does.
    prepare : callable, optional
        What the parent does before it forks for a job.
    """

    job_class = Parcel

    def __init__(self, settings: Settings, database: Database, task: Task, prepare: Prepare | None = None) -> None:
        base_s, cap_s = REDIS_BACKOFF_S
        redis_url = settings.redis_url.get_secret_value()
        patient = Retry(ExponentialWithJitterBackoff(base=base_s, cap=cap_s), REDIS_TRIES)
        super().__init__(
            [settings.queue],
            name=_make_name(),
            connection=connect(redis_url, retry=patient, timeout_s=WORKER_TTL_S),
            worker_ttl=WORKER_TTL_S,
            serializer=JSONSerializer,
            log_job_description=False,
        )
        self._settings = settings
        self._database = database
        self._prepare = prepare
        self._leases = Leases(database)
        self._tracing = Tracing(settings.queue, self._leases.traceparent)
        self._attempts = Attempts(self._leases, task, self.name, self._tracing)
        self._jobs = JobQueue(redis_url)
        self._patiently = stamina.RetryingCaller(attempts=None, timeout=settings.lease_s, wait_max=1.0).on(AWAY)
        self._busy = False
        self._stop_at = math.inf

    def execute_job(self, job: RqJob, queue: Queue) -> None:
        """Give the job a process, and stay with it to its end."""
        self._forget(job, queue)
        self._busy = True
        message = job.read() if isinstance(job, Parcel) else None
        if message is None:
            structlog.get_logger().warning("message_refused", message=job.id, function=job.func_name)
        else:
            self._supervise(message, min(float(job.timeout or math.inf), self._settings.job_timeout_s))
        self._busy = False
        if self._stop_requested:  # RQ would first tell Redis of it, which may be away for minutes
            raise StopRequested

    def request_stop(self, signum: int, frame: object) -> None:  # noqa: ARG002 - a signal handler's signature
        """Stop soon: a running job may finish for a while; the second time it may not."""
        grace_s = 0.0 if self._stop_requested else self._settings.stop_grace_s
        self._stop_at = time.monotonic() + grace_s
        self._stop_requested = True
        if not self._busy:
            raise StopRequested

    @property
    def stopped_on_request(self) -> bool:
        """Whether a signal ended the work, and no fault."""
        return self._stop_requested

    def subscribe(self) -> None:
        """Take no commands from Redis: the database says what is to be stopped, and a fork is safer without threads."""

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Never: the reconciler repairs what is to be repaired, and RQ would call functions that Redis names."""
        return False

    def forget_leftovers(self) -> None:
        """Drop the messages that workers fetched and died with; the reconciler has sent, or will send, newer ones."""
        self.connection.delete(*(queue.intermediate_queue_key for queue in self.queues))

    def teardown(self) -> None:
        """Leave Redis in order if it is there; the database does not need it."""
        self.connection.set_retry(Retry(NoBackoff(), 0))
        with contextlib.suppress(RedisError, OSError):
            self.register_death()  # type: ignore[no-untyped-call]  # RQ annotates only a part of itself
        self._jobs.close()
        self._database.close()

    def _forget(self, job: RqJob, queue: Queue) -> None:
        """From here on the database knows more than the message."""
        with self.connection.pipeline() as pipeline:
            self.set_state(WorkerStatus.BUSY, pipeline=pipeline)
            pipeline.lrem(queue.intermediate_queue_key, 1, job.id)
            pipeline.delete(job.key)
            pipeline.execute()

    def _supervise(self, message: Message, timeout_s: float) -> None:
        if self._prepare is not None:
            self._prepare(message[0])
        self._database.close()
        log, began, began_ns = structlog.get_logger().bind(job=message[0]), time.monotonic(), time.time_ns()
        horse = Horse(lambda: self._attempts.run(message))
        beat_s, lease_s = self._settings.beat_s, self._settings.lease_s
        watch = Watch(self._leases, message, timeout_s=timeout_s, beat_s=beat_s, lease_s=lease_s)
        while (death := horse.wait(watch.next_look_s(self._stop_at))) is None:
            verdict = watch.judge(self._stop_at)
            if verdict is not Verdict.GO_ON:
                horse.kill()
                log = log.bind(seconds=round(time.monotonic() - began, 3))
                log.warning("job_stopped", delivery=message[1], why=verdict.name)
                self._settle(message, verdict, timeout_s, log)
                self._tracing.note_end(message, began_ns, verdict.name.lower())
                return
        if death.status != 0:
            log = log.bind(seconds=round(time.monotonic() - began, 3))
            self._report_death(message, death, log)
            self._tracing.note_end(message, began_ns, "crashed")

    def _settle(self, message: Message, verdict: Verdict, timeout_s: float, log: structlog.BoundLogger) -> None:
        """Say in the database why the run is over. Where it had just ended by itself, this changes nothing."""
        if verdict is Verdict.CANCEL:
            if self._say(self._leases.canceled, *message):
                log.info("job_canceled", delivery=message[1])
        elif verdict is Verdict.TIMED_OUT:
            error = JobTimedOut(
                "The job took longer than its time limit.",
                limit=f"{timeout_s:g} s",
                hint="Compare fewer rows or layers, or raise CONSILIENCE_JOB_TIMEOUT_S.",
            )
            if self._say(self._leases.fail, *message, describe_failure(error)):
                log.info("job_failed", delivery=message[1], error=error.code)
        elif verdict is Verdict.HAND_BACK:
            new = self._say(self._leases.hand_back, *message)
            self._log_next(log, message, new, "handed_back", JobStatus.CANCELED)
            self._push(message[0], new)

    def _report_death(self, message: Message, death: Death, log: structlog.BoundLogger) -> None:
        log.error("job_crashed", delivery=message[1], death=str(death))
        problem = describe_failure(_explain(death))
        new = self._say(self._leases.crashed, *message, problem, self._settings.max_crashes)
        self._log_next(log, message, new, "crashed", JobStatus.CANCELED, JobStatus.FAILED)
        self._push(message[0], new)

    def _log_next(
        self, log: structlog.BoundLogger, message: Message, new: int | None, why: str, *ends: JobStatus
    ) -> None:
        """What becomes of a job whose run is over without a result; where it ended, which of `ends` it was."""
        if new is not None:
            log.warning("job_requeued", delivery=new, why=why)
        elif (status := self._say(self._leases.status, *message)) in ends:
            event = f"job_{status}"
            log.warning(event, delivery=message[1], why=why)

    def _say(self, change: Callable[..., Any], *arguments: object) -> Any:
        try:
            return self._patiently(change, *arguments)
        except AWAY as error:  # the lease runs out by itself
            structlog.get_logger().error("end_not_recorded", job=arguments[0], cause=error.value)
            return None

    def _push(self, job_id: str, delivery: int | None) -> None:
        if delivery is not None:
            try:
                self._jobs.push(job_id, delivery, self._settings.job_timeout_s, self._settings.queue)
            except Unavailable:  # the reconciler will find the message missing
                structlog.get_logger().warning("push_failed", job=job_id, delivery=delivery)


def serve(settings: Settings, database: Database, task: Task, prepare: Prepare | None = None) -> int:
    """Work until a signal says stop; the exit status: 0 where it did, 1 where a fault ended the work."""
    database.wait_for_schema(settings.schema_timeout_s)
    worker = JobWorker(settings, database, task, prepare)
    structlog.get_logger().info("worker_ready", worker=worker.name, queue=settings.queue, threads=settings.threads)
    worker.forget_leftovers()
    freeze_memory()
    worker.work(logging_level="WARNING")
    return 0 if worker.stopped_on_request else 1


def _make_name() -> str:
    """A name of its own: RQ refuses to start a second worker under a name that it remembers."""
    return f"{socket.gethostname()[:NAME_LENGTH_MAX]}-{secrets.token_hex(4)}"


def _explain(death: Death) -> JobError:
    if death.out_of_memory:
        return JobOutOfMemory(
            "The system stopped the job's process for its memory.",
            value=f"{death.peak_bytes} bytes resident",
            hint="Compare fewer rows or layers, or give the worker more memory.",
        )
    return JobCrashed(
        "The job's process died too often.",
        value=str(death),
        hint="See the worker's log; a smaller job may get through.",
    )
