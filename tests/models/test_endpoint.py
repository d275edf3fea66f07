"""A server of embeddings: its rows, its bad days, and what is made of them."""

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
from tests.models.embedding_server import KEY, Manners, fine, later, make_app, serving

MANY = [f"{text} {number}" for number in range(5) for text in TEXTS]
Fault = Callable[[list[dict[str, Any]]], Any]


@dataclass(frozen=True)
class House:
    """A server, how it behaves, and the same model here."""

    endpoint: Endpoint
    manners: Manners
    here: EmbeddingModel

    def open(self, **changes: Any) -> EmbeddingModel:
        return open_model("endpoint:tiny", ModelRules(endpoints={"tiny": replace(self.endpoint, **changes)}))

    def expect(self, texts: list[str]) -> np.ndarray[Any, Any]:
        return self.here.encode(texts, ["embedding"]).rows[0]


@pytest.fixture(scope="module")
def running(rules: ModelRules) -> Iterator[House]:
    here, manners = open_model("st:tiny-sentences", rules), Manners()
    with serving(make_app("tiny", lambda texts: here.encode(texts, ["embedding"]).rows[0], manners)) as url:
        yield House(Endpoint(url, "tiny", KEY, batch=8, patience_s=5), manners, here)


@pytest.fixture
def house(running: House) -> House:
    vars(running.manners).update(vars(Manners()))
    return running


def test_its_rows_are_those_of_the_model_that_it_serves(house: House) -> None:
    model = house.open()
    assert model.layers == (("embedding", 20),)
    np.testing.assert_allclose(model.encode(MANY, ["embedding"]).rows[0], house.expect(MANY), atol=1e-5)
    assert [len(texts) for texts in house.manners.questions] == [1, 8, 8, 8, 6]
    assert KEY not in f"{house.endpoint} {model.record}"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(house: House, status: int) -> None:
    house.manners.faults = [fine, later(status), later(status), fine]
    np.testing.assert_allclose(house.open().encode(MANY[:8], ["embedding"]).rows[0], house.expect(MANY[:8]), atol=1e-5)
    assert len(house.manners.questions) == 4


def test_it_is_asked_again_when_it_says(house: House) -> None:
    house.manners.faults = [fine, later(429, **{"retry-after": "1"})]
    model = house.open()
    start = time.monotonic()
    model.encode(["a"], ["embedding"])
    assert time.monotonic() - start >= 1


def test_a_server_that_wants_more_time_than_there_is_has_failed_at_once(house: House) -> None:
    house.manners.faults = [fine, later(429, **{"retry-after": "3600"})]
    model = house.open()
    start = time.monotonic()
    with pytest.raises(EndpointFailed, match="429: not now"):
        model.encode(["a"], ["embedding"])
    assert time.monotonic() - start < 2


def test_a_server_that_stays_away_half_way_has_failed_and_the_next_call_goes_on(house: House) -> None:
    model = house.open(patience_s=0.3)
    house.manners.faults = [fine, *[later(503)] * 20]
    with pytest.raises(EndpointFailed, match="answers 503") as caught:
        model.encode(MANY, ["embedding"])
    assert caught.value.retryable
    house.manners.faults = []
    np.testing.assert_allclose(model.encode(MANY, ["embedding"]).rows[0], house.expect(MANY), atol=1e-5)


def test_a_server_with_smaller_batches_gets_smaller_ones(house: House) -> None:
    house.manners.batch = 3
    np.testing.assert_allclose(house.open().encode(MANY, ["embedding"]).rows[0], house.expect(MANY), atol=1e-5)


def test_the_one_text_that_a_server_refuses_is_found(house: House) -> None:
    house.manners.longest = 100
    texts = [*MANY[:3], "x" * 101, *MANY[:3]]
    with pytest.raises(UnusableItem, match="a text is too long") as caught:
        house.open().encode(texts, ["embedding"])
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
    ("fault", "said"),
    [
        (cut, "indexes"),
        (shorten, "dim 19 where 20"),
        (shorten_one, "dim 19, 20"),
        (repeat, "indexes"),
        (write_words, "no number"),
        (overflow, "not finite"),
        (encode_base64, "no list"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_answer_that_is_no_embeddings_is_refused(house: House, fault: Fault, said: str) -> None:
    model = house.open()
    house.manners.faults = [fault]
    with pytest.raises(EndpointFailed, match=said):
        model.encode(MANY[:4], ["embedding"])


def test_entries_may_come_in_any_order(house: House) -> None:
    house.manners.faults = [fine, lambda data: data.reverse()]
    np.testing.assert_allclose(house.open().encode(MANY[:8], ["embedding"]).rows[0], house.expect(MANY[:8]), atol=1e-5)


@pytest.mark.parametrize(("changes", "said"), [({"api_key": "wrong"}, "401"), ({"model": "huge"}, "no model huge")])
def test_a_server_that_does_not_know_us_or_the_model_is_not_asked_again(
    house: House, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(EndpointFailed, match=said):
        house.open(**changes)
    assert len(house.manners.questions) == 1


def test_an_endpoint_that_nobody_configured_is_unknown() -> None:
    with pytest.raises(UnknownModel, match="CONSILIENCE_MODEL_ENDPOINTS"):
        open_model("endpoint:tiny", ModelRules())


def test_a_server_that_is_not_there_has_failed_without_its_address_in_the_answer() -> None:
    with pytest.raises(EndpointFailed, match="does not answer"):
        open_model("endpoint:x", ModelRules(endpoints={"x": Endpoint("http://127.0.0.1:9/v1", "m", patience_s=0.2)}))


ONE = {"data": [{"index": 0, "embedding": [0.5, 1]}]}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(body="<html>"), "something else than embeddings"),
        (Answer(body=[]), "no list `data`"),
        (Answer(body={"data": [0]}), "no list `data`"),
        (Answer(body="[" * 100_000), "nested"),
        (Answer(302, "", {"location": "http://169.254.169.254/"}), "answers 302"),
        (Answer(body=" " * 4 * 2**20), "more than"),
        (Answer(body='{"data": [{"index": 0, "embedding": [1' + "0" * 400 + "]}]}"), "larger than"),
        (Answer(body='{"data": [{"index": 0, "embedding": [NaN]}]}'), "not finite"),
    ],
    ids=["html", "list", "numbers", "nested", "redirect", "flood", "huge", "nan"],
)
def test_what_no_sound_server_says_is_refused(answer: Answer, said: str) -> None:
    with serving_script(Script(answer)) as script:
        rules = ModelRules(endpoints={"x": Endpoint(f"{script.url}/v1", "m", patience_s=0.2)})
        with pytest.raises(EndpointFailed, match=said):
            open_model("endpoint:x", rules)


def test_a_connection_that_breaks_is_made_again() -> None:
    with serving_script(Script(Answer(break_off=True), Answer(body=ONE))) as script:
        model = open_model("endpoint:x", ModelRules(endpoints={"x": Endpoint(f"{script.url}/v1/", "m", patience_s=5)}))
        assert model.layers == (("embedding", 2),)
        assert [seen.path for seen in script.seen] == ["/v1/embeddings"] * 2
        assert "authorization" not in script.seen[0].headers


def test_a_retry_after_is_a_number_or_a_date() -> None:
    assert parse_retry_after("7") == 7
    assert parse_retry_after("") == parse_retry_after("soon") == parse_retry_after("-3") == 0
    assert 8 < parse_retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)) <= 10
    assert parse_retry_after(format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)) == 0


def test_an_image_is_refused(house: House) -> None:
    with pytest.raises(UnusableItem, match="not images") as caught:
        house.open().encode(["a", b"\x89PNG"], ["embedding"])
    assert caught.value.index == 1
