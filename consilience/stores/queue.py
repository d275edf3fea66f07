"""Message queues: RQ on Redis. A message is the id of a job and a delivery number. The database is the source of truth."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer
from rq.utils import as_text, utcparse

from consilience.contract.jobs import QUEUES, QueueName
from consilience.errors import StartupError, Unavailable

#: Name of the only function that a worker runs.
TASK = "workers.tasks.run"
#: Timeout of requests to Redis. The reconciler delivers messages that could not be sent.
REQUEST_TIMEOUT_S = 0.5
#: Seconds after which Redis drops a message that no worker fetched. The reconciler sends it again.
MESSAGE_TTL_S = 7 * 24 * 3600
#: Time without a heartbeat after which an idle worker counts as stopped. Heartbeats are 5 s apart.
WORKER_TIMEOUT = timedelta(seconds=30)
MESSAGE_ID = re.compile(r"(job_[0-9a-f]{32})-([0-9]{1,9})")

#: Id of a job, and a delivery number.
Message = tuple[str, int]


class JobQueue:
    """Producer side of the queues. There is one queue for each kind of worker.

    Parameters
    ----------
    redis_url : str
        ``redis://:password@host:port/db``, ``rediss://...`` or ``unix:///path/to/socket``.

    Raises
    ------
    StartupError
        The URL is invalid.
    """

    def __init__(self, redis_url: str) -> None:
        # A broken pooled connection is replaced at once. There are no other retries.
        once_more = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        self._redis = connect(redis_url, retry=once_more, timeout_s=REQUEST_TIMEOUT_S)
        self._queues = {name: Queue(name, connection=self._redis, serializer=JSONSerializer) for name in QUEUES}

    def push(self, job_id: str, delivery: int, timeout_s: float, queue: QueueName = "align") -> None:
        """Enqueue a job that is committed in the database. Raise Unavailable if Redis does not respond.

        `timeout_s` is the time limit of the job, rounded to whole seconds (at least 1).
        """
        # The id is unique and is checked by the push, so a repeated push is ignored.
        with _translate_errors(), contextlib.suppress(DuplicateJobError):
            self._queues[queue].enqueue_call(
                TASK,
                args=(job_id, delivery),
                job_id=f"{job_id}-{delivery}",
                unique=True,
                timeout=max(1, round(timeout_s)),
                ttl=MESSAGE_TTL_S,
                description=TASK,
            )

    def push_all(self, messages: Sequence[Message], timeout_s: float, queue: QueueName = "align") -> None:
        """Enqueue many new messages in one call. Raise Unavailable if Redis does not respond."""
        whole_s = max(1, round(timeout_s))
        data = [
            Queue.prepare_data(
                TASK, args=each, job_id=f"{each[0]}-{each[1]}", timeout=whole_s, ttl=MESSAGE_TTL_S, description=TASK
            )
            for each in messages
        ]
        with _translate_errors():
            self._queues[queue].enqueue_many(data)

    def waiting(self) -> set[Message]:
        """Return all messages that no worker has fetched. Raise Unavailable if Redis does not respond."""
        with _translate_errors():
            ids = [each for queue in self._queues.values() for each in self._redis.lrange(queue.key, 0, -1)]
        # The queue may contain anything, even invalid text; only valid messages count.
        texts = (each.decode(errors="replace") if isinstance(each, bytes) else each for each in ids)
        return {message for text in texts if (message := parse_message(text))}

    def length(self) -> int:
        """Return the number of messages in the queues. Raise Unavailable if Redis does not respond."""
        with _translate_errors():
            return sum(int(queue.count) for queue in self._queues.values())

    def workers(self) -> set[str]:
        """Return the names of idle workers with a recent heartbeat. Raise Unavailable if Redis does not respond.

        Busy workers send no heartbeat to Redis; the database lists them.
        """
        with _translate_errors():
            members = (self._redis.smembers(f"rq:workers:{name}") for name in self._queues)
            keys = [as_text(key) for each in members for key in each]
            with self._redis.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hget(key, "last_heartbeat")
                beats = pipeline.execute(raise_on_error=False)
        return {key.removeprefix("rq:worker:") for key, beat in zip(keys, beats, strict=True) if _is_recent(beat)}

    def ping(self) -> None:
        """Raise Unavailable if Redis does not respond."""
        with _translate_errors():
            self._redis.ping()

    def close(self) -> None:
        """Close all connections. The next use opens new ones."""
        self._redis.close()


def connect(redis_url: str, *, retry: Retry, timeout_s: float) -> Redis:
    """Return a client of Redis. Raise StartupError if the URL is invalid."""
    try:
        return Redis.from_url(redis_url, retry=retry, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    except ValueError as error:
        raise StartupError(
            f"The URL of Redis is invalid: {error}",  # the error never contains the password
            hint="Set CONSILIENCE_REDIS_URL to redis://:password@host:port/0 or unix:///path/to/socket.",
        ) from None


def parse_message(text: str) -> Message | None:
    """Return the message of an RQ id such as `job_...-3`, or None if it is not a valid message."""
    match = MESSAGE_ID.fullmatch(text)
    return (match[1], int(match[2])) if match else None


def _is_recent(beat: object) -> bool:
    """Return True if a heartbeat, as RQ writes it, is less than half a minute old. Invalid values count as old."""
    if not isinstance(beat, bytes):
        return False
    with contextlib.suppress(ValueError):
        return abs(datetime.now(UTC) - utcparse(beat.decode(errors="replace"))) < WORKER_TIMEOUT
    return False


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise Unavailable("Redis does not respond.", value=type(error).__name__) from error
