"""The queues: RQ on Redis. A message is a job's id and its delivery number; Redis only delivers."""

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

#: The one function that a worker runs.
TASK = "workers.tasks.run"
#: A request gives up on Redis after this long; the reconciler delivers what it could not.
PATIENCE_S = 0.5
#: Redis forgets a message that nobody fetched in this time; the reconciler would deliver it anew.
MESSAGE_TTL_S = 7 * 24 * 3600
#: An idle worker shows itself every 5 s.
WORKER_SILENT = timedelta(seconds=30)
MESSAGE_ID = re.compile(r"(job_[0-9a-f]{32})-([0-9]{1,9})")

#: A job's id and a delivery number.
Message = tuple[str, int]


class JobQueue:
    """The queues, as those who fill them and the reconciler see them: one for each kind of worker.

    Parameters
    ----------
    redis_url : str
        ``redis://:password@host:port/db``, ``rediss://...`` or ``unix:///path/to/socket``.

    Raises
    ------
    StartupError
        The URL cannot be read.
    """

    def __init__(self, redis_url: str) -> None:
        # A pooled connection that died with the last Redis is replaced at once; everything else is not waited for.
        once_more = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        self._redis = connect(redis_url, retry=once_more, timeout_s=PATIENCE_S)
        self._queues = {name: Queue(name, connection=self._redis, serializer=JSONSerializer) for name in QUEUES}

    def push(self, job_id: str, delivery: int, timeout_s: float, queue: QueueName = "align") -> None:
        """Enqueue a job that is committed in the database; Unavailable where Redis does not answer.

        `timeout_s` is how long the job may run; a fraction of a second counts as a whole one.
        """
        # The id is unique and is checked with the push: a repeated one is there already.
        with _translated_errors(), contextlib.suppress(DuplicateJobError):
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
        """Enqueue many that nobody has pushed before, in one go; Unavailable where Redis does not answer."""
        whole_s = max(1, round(timeout_s))
        data = [
            Queue.prepare_data(
                TASK, args=each, job_id=f"{each[0]}-{each[1]}", timeout=whole_s, ttl=MESSAGE_TTL_S, description=TASK
            )
            for each in messages
        ]
        with _translated_errors():
            self._queues[queue].enqueue_many(data)

    def waiting(self) -> set[Message]:
        """Every message that no worker has fetched; Unavailable where Redis does not answer."""
        with _translated_errors():
            ids = [each for queue in self._queues.values() for each in self._redis.lrange(queue.key, 0, -1)]
        # Anything may stand there, even what is no text; only our own messages count.
        texts = (each.decode(errors="replace") if isinstance(each, bytes) else each for each in ids)
        return {message for text in texts if (message := parse_message(text))}

    def length(self) -> int:
        """How many messages wait; Unavailable where Redis does not answer."""
        with _translated_errors():
            return sum(int(queue.count) for queue in self._queues.values())

    def workers(self) -> set[str]:
        """The names of workers that have lately asked for a message; Unavailable where Redis does not answer.

        One that is busy does not ask: the database knows what it does.
        """
        with _translated_errors():
            members = (self._redis.smembers(f"rq:workers:{name}") for name in self._queues)
            keys = [as_text(key) for each in members for key in each]
            with self._redis.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hget(key, "last_heartbeat")
                beats = pipeline.execute(raise_on_error=False)
        return {key.removeprefix("rq:worker:") for key, beat in zip(keys, beats, strict=True) if _is_recent(beat)}

    def ping(self) -> None:
        """Raise Unavailable where Redis does not answer."""
        with _translated_errors():
            self._redis.ping()

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        self._redis.close()


def connect(redis_url: str, *, retry: Retry, timeout_s: float) -> Redis:
    """A client of Redis; StartupError where the URL cannot be read."""
    try:
        return Redis.from_url(redis_url, retry=retry, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    except ValueError as error:
        raise StartupError(
            f"This is not an address of Redis: {error}",  # the error names the fault, never the password
            hint="CONSILIENCE_REDIS_URL is redis://:password@host:port/0 or unix:///path/to/socket.",
        ) from None


def parse_message(text: str) -> Message | None:
    """The message of an RQ id, `job_...-3`; None where it is not one of ours."""
    found = MESSAGE_ID.fullmatch(text)
    return (found[1], int(found[2])) if found else None


def _is_recent(beat: object) -> bool:
    """Whether a worker's sign of life, as RQ writes it, is less than half a minute old; anything else is none."""
    if not isinstance(beat, bytes):
        return False
    with contextlib.suppress(ValueError):
        return abs(datetime.now(UTC) - utcparse(beat.decode(errors="replace"))) < WORKER_SILENT
    return False


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise Unavailable("Redis does not answer.", value=type(error).__name__) from error
