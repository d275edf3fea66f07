"""Retries, problem documents, and services that are slow, busy, broken or unreachable."""

import socket
import time

import pytest

from consilience.client.transport import check_url, error_of
from consilience.contract.problems import Problem
from consilience.errors import (
    ConsilienceError,
    InputError,
    InvalidRequest,
    NotFound,
    ServiceError,
    Unavailable,
    Unreachable,
)
from tests.client.conftest import Call
from tests.client.documents import JOB_ID, job, problem
from tests.client.scripted import Answer, Script, serving


def test_a_busy_service_is_retried_after_the_pause_that_it_names(call: Call) -> None:
    busy = Answer(503, problem("unavailable", 503), {"retry-after": "1"})
    with serving(Script(busy, Answer(body=job()))) as script:
        started = time.monotonic()
        assert call(script.url, lambda client: client.job(JOB_ID)).id == JOB_ID
        assert time.monotonic() - started >= 1.0
        assert len(script.seen) == 2


def test_a_busy_service_that_names_no_pause_is_retried_soon(call: Call) -> None:
    with serving(Script(Answer(429, problem("unavailable", 429)), Answer(body=job()))) as script:
        started = time.monotonic()
        call(script.url, lambda client: client.job(JOB_ID))
        assert time.monotonic() - started < 1.0


def test_after_the_retry_timeout_the_services_own_error_is_raised(call: Call) -> None:
    busy = Answer(503, problem("unavailable", 503, hint="Try later."))
    with serving(Script(busy)) as script, pytest.raises(Unavailable, match=r"What is wrong\. Try later\."):
        call(script.url, lambda client: client.job(JOB_ID), retry_timeout_s=0.2)


def test_a_pause_longer_than_the_retry_timeout_is_not_waited_for(call: Call) -> None:
    busy = Answer(503, problem("unavailable", 503), {"retry-after": "3600"})
    with serving(Script(busy)) as script, pytest.raises(Unavailable):
        call(script.url, lambda client: client.job(JOB_ID), retry_timeout_s=1.0)
    assert len(script.seen) == 1


def test_a_broken_connection_is_opened_again(call: Call) -> None:
    with serving(Script(Answer(break_off=True), Answer(body=job()))) as script:
        assert call(script.url, lambda client: client.job(JOB_ID)).id == JOB_ID


def test_an_unreachable_service_is_an_error_with_its_address(call: Call) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Unreachable, match=url):
            call(url, lambda client: client.info(), retry_timeout_s=0.2)


def test_a_problem_is_not_retried(call: Call) -> None:
    with serving(Script(Answer(404, problem("not-found", 404, value=JOB_ID)))) as script:
        with pytest.raises(NotFound) as raised:
            call(script.url, lambda client: client.job(JOB_ID))
        assert raised.value.value == JOB_ID
        assert len(script.seen) == 1


def test_every_validation_error_of_a_problem_reaches_the_caller(call: Call) -> None:
    faults = [{"pointer": "/a", "detail": "Field required."}, {"pointer": "/seed", "detail": "Not a number."}]
    answer = Answer(422, problem("invalid-request", 422, errors=faults))
    with serving(Script(answer)) as script, pytest.raises(InvalidRequest) as raised:
        call(script.url, lambda client: client.job(JOB_ID))
    assert raised.value.__notes__ == ["/a: Field required.", "/seed: Not a number."]


@pytest.mark.parametrize("status", [200, 404, 502])
def test_a_response_of_another_program_is_a_service_error(call: Call, status: int) -> None:
    strange = Script(Answer(status, "<html>nginx</html>"))
    with serving(strange), pytest.raises(ServiceError, match="not from a Consilience service"):
        call(strange.url, lambda client: client.job(JOB_ID))


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "https://host.example/under/a/path", "http://[::1]:80"])
def test_a_valid_address_is_returned_unchanged(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://", "http://host:99999", "http://[::1"])
def test_an_invalid_address_is_refused_before_any_request(url: str) -> None:
    with pytest.raises(InvalidRequest, match="must be an http or https URL"):
        check_url(url)


def all_kinds(root: type[ConsilienceError]) -> list[type[ConsilienceError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in all_kinds(child))]


@pytest.mark.parametrize("kind", [k for k in all_kinds(ConsilienceError) if k.__module__ == "consilience.errors"])
def test_every_error_is_received_as_its_own_class_with_its_data(kind: type[ConsilienceError]) -> None:
    sent = kind("Wrong.", value="v", limit=3, hint="Mend it.", pointer="/a")
    received = error_of(Problem.of(sent, 400))
    assert type(received).code == kind.code
    assert vars(received) == vars(sent)


@pytest.mark.parametrize(("status", "kind"), [(418, InputError), (500, ServiceError)])
def test_an_unknown_problem_code_is_an_error_by_its_status(status: int, kind: type[ConsilienceError]) -> None:
    assert type(error_of(Problem.model_validate(problem("never-heard-of", status)))) is kind
