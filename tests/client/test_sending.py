"""What both clients do when a service is slow, busy, broken, or not there at all."""

import socket
import time

import pytest

from consilience.client.sending import address
from consilience.errors import InvalidRequest, NotFound, ServiceError, Unavailable, Unreachable
from tests.client.conftest import Call
from tests.client.documents import JOB_ID, job, problem
from tests.client.scripted import Answer, Script, serving


def test_a_service_that_is_busy_is_asked_again_when_it_says(call: Call) -> None:
    busy = Answer(503, problem("unavailable", 503), {"retry-after": "1"})
    with serving(Script(busy, Answer(body=job()))) as script:
        started = time.monotonic()
        assert call(script.url, lambda client: client.job(JOB_ID)).id == JOB_ID
        assert time.monotonic() - started >= 1.0
        assert len(script.seen) == 2


def test_a_busy_service_without_a_hint_is_asked_again_soon(call: Call) -> None:
    with serving(Script(Answer(429, problem("unavailable", 429)), Answer(body=job()))) as script:
        started = time.monotonic()
        call(script.url, lambda client: client.job(JOB_ID))
        assert time.monotonic() - started < 1.0


def test_patience_ends_with_the_services_own_error(call: Call) -> None:
    busy = Answer(503, problem("unavailable", 503, hint="Try later."))
    with serving(Script(busy)) as script, pytest.raises(Unavailable, match=r"What is wrong\. Try later\."):
        call(script.url, lambda client: client.job(JOB_ID), patience_s=0.2)


def test_a_pause_longer_than_the_patience_is_not_waited_for(call: Call) -> None:
    busy = Answer(503, problem("unavailable", 503), {"retry-after": "3600"})
    with serving(Script(busy)) as script, pytest.raises(Unavailable):
        call(script.url, lambda client: client.job(JOB_ID), patience_s=1.0)
    assert len(script.seen) == 1


def test_a_connection_that_breaks_is_opened_again(call: Call) -> None:
    with serving(Script(Answer(break_off=True), Answer(body=job()))) as script:
        assert call(script.url, lambda client: client.job(JOB_ID)).id == JOB_ID


def test_nobody_there_is_unreachable_and_names_the_address(call: Call) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Unreachable, match=url):
            call(url, lambda client: client.info(), patience_s=0.2)


def test_a_problem_is_not_tried_again(call: Call) -> None:
    with serving(Script(Answer(404, problem("not-found", 404, value=JOB_ID)))) as script:
        with pytest.raises(NotFound) as raised:
            call(script.url, lambda client: client.job(JOB_ID))
        assert raised.value.value == JOB_ID
        assert len(script.seen) == 1


def test_every_fault_of_a_problem_reaches_the_caller(call: Call) -> None:
    faults = [{"pointer": "/a", "detail": "Field required."}, {"pointer": "/seed", "detail": "Not a number."}]
    answer = Answer(422, problem("invalid-request", 422, errors=faults))
    with serving(Script(answer)) as script, pytest.raises(InvalidRequest) as raised:
        call(script.url, lambda client: client.job(JOB_ID))
    assert raised.value.__notes__ == ["/a: Field required.", "/seed: Not a number."]


@pytest.mark.parametrize("status", [200, 404, 502])
def test_an_answer_of_some_other_program_says_so(call: Call, status: int) -> None:
    strange = Script(Answer(status, "<html>nginx</html>"))
    with serving(strange), pytest.raises(ServiceError, match="not Consilience's"):
        call(strange.url, lambda client: client.job(JOB_ID))


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "https://host.example/under/a/path", "http://[::1]:80"])
def test_an_address_is_taken_as_it_is(url: str) -> None:
    assert address(url) == url


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://", "http://host:99999", "http://[::1"])
def test_what_is_no_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(InvalidRequest, match="is no address of a service"):
        address(url)
