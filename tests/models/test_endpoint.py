"""Embedding servers: their rows, and their failures."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest

from consilience.errors import EndpointFailed, UnknownModel
from consilience.models.base import EmbeddingModel, UnusableItem
from consilience.models.endpoint import parse_retry_after
from consilience.models.registry import open_model
from consilience.models.rules import Endpoint, ModelRules
from tests.client.scripted import Answer, Script
from tests.client.scripted import serving as serving_script
from tests.models.conftest import TEXTS
from tests.models.embedding_server import KEY, ServerBehaviour, error_response, make_app, no_fault, serving

MANY = [f"{text} {number}" for number in range(5) for text in TEXTS]
Fault = Callable[[list[dict[str, Any]]], Any]


@dataclass(frozen=True)
class EndpointSetup:
    """A server, its behaviour, and the same model in this process."""

    endpoint: Endpoint
    behaviour: ServerBehaviour
    local: EmbeddingModel

    def open(self, **changes: Any) -> EmbeddingModel:
        return open_model("endpoint:tiny", ModelRules(endpoints={"tiny": replace(self.endpoint, **changes)}))

    def expect(self, texts: list[str]) -> np.ndarray[Any, Any]:
        return self.local.encode(texts, ["embedding"]).rows[0]


@pytest.fixture(scope="module")
def running(rules: ModelRules) -> Iterator[EndpointSetup]:
    local, behaviour = open_model("st:tiny-sentences", rules), ServerBehaviour()
    with serving(make_app("tiny", lambda texts: local.encode(texts, ["embedding"]).rows[0], behaviour)) as url:
        yield EndpointSetup(Endpoint(url, "tiny", KEY, batch=8, retry_timeout_s=5), behaviour, local)


@pytest.fixture
def served(running: EndpointSetup) -> EndpointSetup:
    vars(running.behaviour).update(vars(ServerBehaviour()))
    return running


def test_rows_of_a_server_equal_those_of_its_model(served: EndpointSetup) -> None:
    model = served.open()
    assert model.layers == (("embedding", 20),)
    np.testing.assert_allclose(model.encode(MANY, ["embedding"]).rows[0], served.expect(MANY), atol=1e-5)
    assert [len(texts) for texts in served.behaviour.requests] == [1, 8, 8, 8, 6]
    assert KEY not in f"{served.endpoint} {model.record}"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_request_to_a_busy_server_is_retried(served: EndpointSetup, status: int) -> None:
    served.behaviour.faults = [no_fault, error_response(status), error_response(status), no_fault]
    np.testing.assert_allclose(
        served.open().encode(MANY[:8], ["embedding"]).rows[0], served.expect(MANY[:8]), atol=1e-5
    )
    assert len(served.behaviour.requests) == 4


def test_the_retry_waits_as_long_as_the_server_requests(served: EndpointSetup) -> None:
    served.behaviour.faults = [no_fault, error_response(429, **{"retry-after": "1"})]
    model = served.open()
    start = time.monotonic()
    model.encode(["a"], ["embedding"])
    assert time.monotonic() - start >= 1


def test_a_retry_after_beyond_the_timeout_fails_at_once(served: EndpointSetup) -> None:
    served.behaviour.faults = [no_fault, error_response(429, **{"retry-after": "3600"})]
    model = served.open()
    start = time.monotonic()
    with pytest.raises(EndpointFailed, match="429: not now"):
        model.encode(["a"], ["embedding"])
    assert time.monotonic() - start < 2


def test_a_call_fails_if_the_server_goes_away_and_the_next_continues(served: EndpointSetup) -> None:
    model = served.open(retry_timeout_s=0.3)
    served.behaviour.faults = [no_fault, *[error_response(503)] * 20]
    with pytest.raises(EndpointFailed, match="responded with status 503") as caught:
        model.encode(MANY, ["embedding"])
    assert caught.value.retryable
    served.behaviour.faults = []
    np.testing.assert_allclose(model.encode(MANY, ["embedding"]).rows[0], served.expect(MANY), atol=1e-5)


def test_batches_are_halved_for_a_server_with_smaller_batches(served: EndpointSetup) -> None:
    served.behaviour.batch = 3
    np.testing.assert_allclose(served.open().encode(MANY, ["embedding"]).rows[0], served.expect(MANY), atol=1e-5)


def test_the_one_text_that_a_server_refuses_is_found(served: EndpointSetup) -> None:
    served.behaviour.longest = 100
    texts = [*MANY[:3], "x" * 101, *MANY[:3]]
    with pytest.raises(UnusableItem, match="a text is too long") as caught:
        served.open().encode(texts, ["embedding"])
    assert caught.value.index == 3


def cut(data: list[dict[str, Any]]) -> None:
    data.pop()


def shorten(data: list[dict[str, Any]]) -> None:
    for entry in data:
        entry["embedding"].pop()


def shorten_one(data: list[dict[str, Any]]) -> None:
    data[-1]["embedding"].pop()


def repeat(data: list[dict[str, Any]]) -> None:
    data[0]["index"] = 1


def write_words(data: list[dict[str, Any]]) -> None:
    data[0]["embedding"][0] = "0.5"


def overflow(data: list[dict[str, Any]]) -> None:
    data[0]["embedding"][0] = 1e300


def encode_base64(data: list[dict[str, Any]]) -> None:
    data[0]["embedding"] = "AAAA"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (cut, "indices"),
        (shorten, "dim 19, but 20"),
        (shorten_one, "dim 19, 20"),
        (repeat, "indices"),
        (write_words, "not a number"),
        (overflow, "not finite"),
        (encode_base64, "not a list"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_response_without_valid_embeddings_is_refused(served: EndpointSetup, fault: Fault, message: str) -> None:
    model = served.open()
    served.behaviour.faults = [fault]
    with pytest.raises(EndpointFailed, match=message):
        model.encode(MANY[:4], ["embedding"])


def test_entries_may_come_in_any_order(served: EndpointSetup) -> None:
    served.behaviour.faults = [no_fault, lambda data: data.reverse()]
    np.testing.assert_allclose(
        served.open().encode(MANY[:8], ["embedding"]).rows[0], served.expect(MANY[:8]), atol=1e-5
    )


@pytest.mark.parametrize(("changes", "message"), [({"api_key": "wrong"}, "401"), ({"model": "huge"}, "no model huge")])
def test_a_refused_key_or_unknown_model_is_not_retried(
    served: EndpointSetup, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(EndpointFailed, match=message):
        served.open(**changes)
    assert len(served.behaviour.requests) == 1


def test_an_endpoint_that_is_not_configured_is_unknown() -> None:
    with pytest.raises(UnknownModel, match="CONSILIENCE_MODEL_ENDPOINTS"):
        open_model("endpoint:tiny", ModelRules())


def test_an_error_about_an_unreachable_server_hides_its_address() -> None:
    with pytest.raises(EndpointFailed, match="does not respond"):
        open_model(
            "endpoint:x", ModelRules(endpoints={"x": Endpoint("http://127.0.0.1:9/v1", "m", retry_timeout_s=0.2)})
        )


ONE = {"data": [{"index": 0, "embedding": [0.5, 1]}]}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(body="<html>"), "sent an invalid response"),
        (Answer(body=[]), "no list `data`"),
        (Answer(body={"data": [0]}), "no list `data`"),
        (Answer(body="[" * 100_000), "nested"),
        (Answer(302, "", {"location": "http://169.254.169.254/"}), "responded with status 302"),
        (Answer(body=" " * 4 * 2**20), "more than"),
        (Answer(body='{"data": [{"index": 0, "embedding": [1' + "0" * 400 + "]}]}"), "too large for a float"),
        (Answer(body='{"data": [{"index": 0, "embedding": [NaN]}]}'), "not finite"),
    ],
    ids=["html", "list", "numbers", "nested", "redirect", "flood", "huge", "nan"],
)
def test_an_invalid_http_response_is_refused(answer: Answer, message: str) -> None:
    with serving_script(Script(answer)) as script:
        rules = ModelRules(endpoints={"x": Endpoint(f"{script.url}/v1", "m", retry_timeout_s=0.2)})
        with pytest.raises(EndpointFailed, match=message):
            open_model("endpoint:x", rules)


def test_a_request_is_retried_after_a_broken_connection() -> None:
    with serving_script(Script(Answer(break_off=True), Answer(body=ONE))) as script:
        model = open_model(
            "endpoint:x", ModelRules(endpoints={"x": Endpoint(f"{script.url}/v1/", "m", retry_timeout_s=5)})
        )
        assert model.layers == (("embedding", 2),)
        assert [seen.path for seen in script.seen] == ["/v1/embeddings"] * 2
        assert "authorization" not in script.seen[0].headers


def test_a_retry_after_is_a_number_or_a_date() -> None:
    assert parse_retry_after("7") == 7
    assert parse_retry_after("") == parse_retry_after("soon") == parse_retry_after("-3") == 0
    assert 8 < parse_retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)) <= 10
    assert parse_retry_after(format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)) == 0


def test_an_image_is_refused(served: EndpointSetup) -> None:
    with pytest.raises(UnusableItem, match="not images") as caught:
        served.open().encode(["a", b"\x89PNG"], ["embedding"])
    assert caught.value.index == 1
