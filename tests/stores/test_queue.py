import json
import os
import signal
import time
import zlib
from collections.abc import Iterator

import pytest
from redis import Redis

from consilience.errors import StartupError, Unavailable
from consilience.stores.queue import JobQueue, parse_message

JOB = "job_" + "0" * 32


@pytest.fixture
def queue(redis_url: str) -> Iterator[JobQueue]:
    queue = JobQueue(redis_url)
    yield queue
    queue.close()


def test_a_message_is_an_id_and_a_delivery_in_json(queue: JobQueue, redis_url: str) -> None:
    queue.push(JOB, 3, 60)
    with Redis.from_url(redis_url) as redis:
        data = zlib.decompress(redis.hget(f"rq:job:{JOB}-3", "data"))
        assert redis.ttl(f"rq:job:{JOB}-3") > 24 * 3600
    assert json.loads(data) == ["workers.tasks.run", None, [JOB, 3], {}]


def test_queued_messages_can_be_counted_and_listed(queue: JobQueue, redis_url: str) -> None:
    queue.push(JOB, 1, 60)
    queue.push(JOB, 2, 0.2)
    with Redis.from_url(redis_url) as redis:
        redis.rpush("rq:queue:align", "forged", b"\xff", JOB)
    assert queue.waiting() == {(JOB, 1), (JOB, 2)}
    assert queue.length() == 5


def test_a_message_that_is_pushed_twice_is_there_once(queue: JobQueue) -> None:
    queue.push(JOB, 1, 60)
    queue.push(JOB, 1, 60)
    assert queue.length() == 1


def test_each_kind_of_worker_has_a_queue_of_its_own_and_all_are_seen(queue: JobQueue, redis_url: str) -> None:
    queue.push(JOB, 1, 60)
    queue.push(JOB, 2, 60, "extract")
    with Redis.from_url(redis_url) as redis:
        assert redis.lrange("rq:queue:extract", 0, -1) == [f"{JOB}-2".encode()]
    assert queue.waiting() == {(JOB, 1), (JOB, 2)}
    assert queue.length() == 2


@pytest.mark.parametrize("text", ["", "job_1-1", f"{JOB}", f"{JOB}-", f"{JOB}-x", f"x{JOB}-1", f"{JOB}-1\n"])
def test_other_strings_are_not_messages(text: str) -> None:
    assert parse_message(text) is None


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://:secret@host", "redis://:secret@host:port/0"])
def test_an_address_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StartupError) as caught:
        JobQueue(url)
    assert "secret" not in str(caught.value)


def test_a_redis_that_is_not_there_is_unavailable_at_once() -> None:
    queue = JobQueue("redis://:secret@127.0.0.1:1/0")
    began = time.monotonic()
    for call in (queue.ping, queue.length, queue.waiting, lambda: queue.push(JOB, 1, 60)):
        with pytest.raises(Unavailable) as caught:
            call()
        assert "secret" not in f"{caught.value} {caught.value.value}"
    assert time.monotonic() - began < 1.0


def test_a_redis_that_hangs_is_unavailable_after_half_a_second(redis_url: str, queue: JobQueue) -> None:
    queue.ping()
    with Redis.from_url(redis_url) as redis:
        pid = redis.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            queue.ping()
        assert 0.4 < time.monotonic() - began < 1.2
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_connection_that_died_is_replaced_at_once(redis_url: str, queue: JobQueue) -> None:
    queue.ping()
    with Redis.from_url(redis_url) as redis:
        redis.client_kill_filter(_type="normal", skipme=True)
    queue.ping()
