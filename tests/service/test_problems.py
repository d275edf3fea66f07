from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from consilience.contract.problems import PROBLEM_MEDIA_TYPE
from consilience.errors import ConsilienceError, InputError, NonFiniteValues, StateError, Unavailable
from service.app import create_app
from service.problems import error_responses, status_of
from service.settings import ServiceSettings
from tests.service.servers import assert_problem


def tree(root: type[ConsilienceError] = ConsilienceError) -> Iterator[type[ConsilienceError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def test_errors_of_the_caller_are_4xx_and_all_others_5xx() -> None:
    for kind in tree():
        assert (status_of(kind) < 500) == issubclass(kind, InputError | StateError), kind


def test_codes_are_unique_but_for_subclasses_of_one_error() -> None:
    own = [kind.code for kind in tree() if "code" in vars(kind)]

    assert len(own) == len(set(own))


def test_a_route_documents_its_problems_by_status() -> None:
    documented = error_responses(NonFiniteValues, Unavailable)

    assert list(documented) == [422, 503]
    assert "non-finite-values" in documented[422]["description"]
    assert PROBLEM_MEDIA_TYPE in documented[422]["content"]


@pytest.fixture
def app(sqlite_url: str, tmp_path: Path) -> FastAPI:
    """Service whose Redis is unavailable."""
    return create_app(
        ServiceSettings(data_dir=tmp_path, database_url=sqlite_url, redis_url=f"unix://{tmp_path}/nothing")
    )


def test_an_unexpected_error_is_a_problem_without_a_traceback(app: FastAPI) -> None:

    @app.get("/broken")
    def break_down() -> None:
        raise RuntimeError("secret words")

    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/broken")

    document = answer.json()
    assert (answer.status_code, document["type"].rsplit("/", 1)[-1]) == (500, "internal-error")
    assert document["request_id"]
    assert "secret" not in answer.text


def test_a_retryable_error_has_retry_after(app: FastAPI) -> None:

    @app.get("/down")
    def fail() -> None:
        raise Unavailable("The database does not answer.")

    with TestClient(app) as client:
        answer = client.get("/down")

    assert_problem(answer, 503, "unavailable", retryable=True)
    assert answer.headers["retry-after"] == "1"
