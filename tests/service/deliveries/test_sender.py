"""Delivery of signed messages to a real receiver, with retries."""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from consilience.contract.webhooks import Webhook, WebhookStatus
from consilience.stores.database import Database
from consilience.stores.jobs import JobRecords
from consilience.stores.webhooks import Outbox
from service.deliveries.http import Destinations, parse_secret
from service.deliveries.sender import PAUSES_S, DeliveryTiming, Sender
from tests.service.deliveries.receivers import SECRET, Receiver

LOOPBACK = Destinations((ipaddress.ip_network("127.0.0.0/8"),))
QUICK = DeliveryTiming(timeout_s=0.5, interval_s=0.02, pauses_s=(0.05, 0.05))


def make_sender(database: Database, destinations: Destinations = LOOPBACK, timing: DeliveryTiming = QUICK) -> Sender:
    return Sender(Outbox(database), [parse_secret(SECRET)], destinations, timing)


@pytest.fixture
def sending(database: Database) -> Iterator[None]:
    """Run a sender."""
    stopping = threading.Event()
    thread = threading.Thread(target=make_sender(database).run, args=(stopping,))
    thread.start()
    yield
    stopping.set()
    thread.join(10)


def until_settled(jobs: JobRecords, job_id: str) -> Webhook:
    deadline = time.monotonic() + 15
    while (hook := jobs.webhook(job_id)).status not in {WebhookStatus.DELIVERED, WebhookStatus.FAILED}:
        assert time.monotonic() < deadline, hook
        time.sleep(0.02)
    return hook


def test_a_webhook_is_delivered_once_and_signed(
    sending: None, jobs: JobRecords, receiver: Receiver, end_job: Callable[..., str]
) -> None:
    job_id = end_job()
    hook = until_settled(jobs, job_id)
    (received,) = receiver.got
    assert received.is_signed()
    assert received.message_id == hook.id
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"].startswith("consilience/")
    assert (received.event["type"], received.event["data"]["id"]) == ("job.canceled", job_id)
    assert (hook.status, hook.attempts) == (WebhookStatus.DELIVERED, 1)


def test_a_refused_message_is_sent_again_with_the_same_id(
    sending: None, jobs: JobRecords, receiver: Receiver, end_job: Callable[..., str]
) -> None:
    answers = iter([500, 302, 200])
    receiver.answer = lambda: next(answers)
    hook = until_settled(jobs, end_job())
    assert (hook.status, hook.attempts, hook.last_error) == (
        WebhookStatus.DELIVERED,
        3,
        "the receiver responded with status 302",
    )
    assert len({(received.message_id, received.body) for received in receiver.got}) == 1
    assert all(received.is_signed() for received in receiver.got)


def test_delivery_fails_after_the_last_attempt_with_the_error(
    sending: None, jobs: JobRecords, receiver: Receiver, end_job: Callable[..., str]
) -> None:
    receiver.answer = lambda: 503
    hook = until_settled(jobs, end_job())
    assert (hook.status, hook.attempts) == (WebhookStatus.FAILED, len(QUICK.pauses_s) + 1)
    assert (hook.last_error, hook.next_attempt_at) == ("the receiver responded with status 503", None)


def test_a_receiver_that_responds_410_gets_one_attempt(
    sending: None, jobs: JobRecords, receiver: Receiver, end_job: Callable[..., str]
) -> None:
    receiver.answer = lambda: 410
    hook = until_settled(jobs, end_job())
    assert (hook.status, hook.attempts, hook.last_error) == (
        WebhookStatus.FAILED,
        1,
        "the receiver responded with status 410",
    )


def test_a_refused_connection_is_an_error_of_the_attempt(
    sending: None, jobs: JobRecords, end_job: Callable[..., str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    hook = until_settled(jobs, end_job(f"http://127.0.0.1:{port}/"))
    assert hook.status is WebhookStatus.FAILED
    assert "refused" in str(hook.last_error)


def test_an_address_that_is_not_allowed_is_never_connected_to(
    database: Database, jobs: JobRecords, receiver: Receiver, end_job: Callable[..., str]
) -> None:
    sender = make_sender(database, Destinations(), DeliveryTiming(timeout_s=0.5, pauses_s=()))
    job_id = end_job()
    assert sender.send_due() == 1
    hook = until_settled(jobs, job_id)
    assert hook.status is WebhookStatus.FAILED
    assert "is not public, and the service does not send requests to it" in str(hook.last_error)
    assert receiver.got == []
    sender.drain(5)


def test_a_host_that_hangs_does_not_delay_others(
    database: Database, jobs: JobRecords, receiver: Receiver, end_job: Callable[..., str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = [end_job(f"http://localhost:{silent.getsockname()[1]}/") for _ in range(10)]
        other = end_job()
        sender = make_sender(database, timing=DeliveryTiming(timeout_s=2, slots=6, slots_of_host=4, pauses_s=(100,)))
        assert sender.send_due() == 5, "four to the host that hangs, one to the other"
        assert until_settled(jobs, other).status is WebhookStatus.DELIVERED
        attempts = sorted(jobs.webhook(job_id).attempts for job_id in hanging)
        assert attempts == [0] * 6 + [1] * 4
        sender.drain(10)


def test_a_message_of_a_sender_that_died_is_sent_again(
    database: Database, jobs: JobRecords, receiver: Receiver, end_job: Callable[..., str]
) -> None:
    job_id = end_job()
    dying = make_sender(database, timing=DeliveryTiming(timeout_s=0.2))
    message = dying._claim()
    assert message is not None
    assert dying._attempt(message) == (None, False)
    assert dying.send_due() == 0, "it is claimed"
    successor = make_sender(database, timing=DeliveryTiming(timeout_s=0.2))
    deadline = time.monotonic() + 10
    while not successor.send_due():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert until_settled(jobs, job_id).attempts == 2
    successor.drain(5)
    first, second = receiver.got
    assert (first.message_id, first.body) == (second.message_id, second.body)


def test_many_senders_send_each_message_once(
    database: Database, jobs: JobRecords, receiver: Receiver, end_job: Callable[..., str]
) -> None:
    ids = [end_job() for _ in range(30)]
    stopping = threading.Event()
    senders = [
        threading.Thread(target=make_sender(database, timing=DeliveryTiming(interval_s=0.02)).run, args=(stopping,))
        for _ in range(3)
    ]
    for thread in senders:
        thread.start()
    for job_id in ids:
        assert until_settled(jobs, job_id).attempts == 1
    stopping.set()
    for thread in senders:
        thread.join(10)
    assert sorted(received.event["data"]["id"] for received in receiver.got) == sorted(ids)


def test_the_attempts_span_three_days() -> None:
    assert len(PAUSES_S) == 11
    assert 2.9 < sum(PAUSES_S) / 86_400 < 3.1
    assert max(PAUSES_S) * 1.1 < 2 * 86_400, "no row is due later than the outbox thinks possible"
