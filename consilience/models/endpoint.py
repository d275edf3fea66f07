"""`endpoint:`: a server of the operator's with an OpenAI-compatible API (TEI, vLLM, Infinity, OpenAI)."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2
import numpy as np
import stamina

from consilience.contract.datasets import ViewKind
from consilience.contract.records import ModelRecord
from consilience.errors import EndpointFailed
from consilience.models.base import Encoded, Item, Rows, UnusableItem, find_layer_indices, library_versions
from consilience.models.rules import Endpoint, ModelRules, find_endpoint

DIM_MAX = 65_536


def parse_response(answer: bytes, n: int, dim: int | None) -> Rows:
    """The rows (n, dim) of an answer; ValueError says what is wrong with it.

    Parameters
    ----------
    answer : bytes
        JSON: ``{"data": [{"index": 0, "embedding": [...]}, ...]}``; entries may come in any order.
    n : int
        Texts that were sent.
    dim : int or None
        Of the answers before this one.
    """
    try:
        document = json.loads(answer)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise ValueError("there is no list `data` of objects")
    places = [entry.get("index", place) for place, entry in enumerate(data)]
    if any(type(place) is not int for place in places) or sorted(places) != list(range(n)):
        raise ValueError(f"{n} texts were sent, and the indexes are not 0 to {n - 1}: {len(places)} came back")
    rows = [_parse_row(entry.get("embedding")) for entry in data]
    dims = {len(row) for row in rows}
    if len(dims) != 1 or dims == {0} or (dim is not None and dims != {dim}):
        raise ValueError(f"embeddings of dim {', '.join(map(str, sorted(dims)))} where {dim or 'one dim'} was expected")
    try:
        wide = np.array(rows, np.float64)
    except OverflowError as error:
        raise ValueError("a value is larger than a float can hold") from error
    if not (np.abs(wide) <= np.finfo(np.float32).max).all():  # nor is NaN
        raise ValueError("a value is not finite")
    return wide[np.argsort(places)].astype(np.float32)


def _parse_row(values: object) -> list[float]:
    if not isinstance(values, list) or len(values) > DIM_MAX:
        raise ValueError(f"an embedding is no list of at most {DIM_MAX} numbers")
    if not all(type(value) in {float, int} for value in values):
        raise ValueError("a value of an embedding is no number")
    return values


#: What the server gives is one layer.
LAYER = "embedding"
CONNECT_TIMEOUT_S = 5.0
#: Answers that may be better later.
RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
#: Answers that are about the texts: too long for the server, or too many at once.
TEXT_ERROR_STATUSES = frozenset({400, 413, 422})
#: Characters that a number may take in JSON, with its comma.
NUMBER_BYTES = 32
ENVELOPE_BYTES = 2**20


class EndpointRefusal(Exception):
    """An answer that is none; carries it through the retry loop, never seen outside."""

    def __init__(self, status: int, retry_after: str, said: str) -> None:
        super().__init__(status)
        self.status, self.retry_after, self.said = status, retry_after, said


def open_endpoint(identifier: str, name: str, rules: ModelRules) -> "EndpointModel":
    """The model behind a server; one short text is embedded to find its dim. Raises UnknownModel, EndpointFailed."""
    return EndpointModel(identifier, find_endpoint(identifier, name, rules))


class EndpointModel:
    """A model that a server runs: its answers are checked, and asked for again while it is busy or away.

    Parameters
    ----------
    identifier : str
        As the user named it.
    endpoint : Endpoint
        Where the server is.
    """

    kinds: frozenset[ViewKind] = frozenset({"text", "code"})

    def __init__(self, identifier: str, endpoint: Endpoint) -> None:
        self._name, self._endpoint = identifier, endpoint
        self._dim: int | None = None
        with self._connect() as client:
            self._dim = int(self._embed(client, ["a"], 0).shape[1])
        self.layers = ((LAYER, self._dim),)
        self.record = ModelRecord(
            model=identifier,
            pooling="built_in",
            preparation={"model": endpoint.model},
            dtype="float32",
            libraries=library_versions("httpx2"),
            device="endpoint",
        )

    def encode(self, items: Sequence[Item], layers: Sequence[str]) -> Encoded:
        """See `Model.encode`. How much of a long text the server reads, it does not say."""
        asked = len(find_layer_indices(self.layers, layers))
        texts = [item for item in items if isinstance(item, str)]
        if len(texts) < len(items):
            index = next(index for index, item in enumerate(items) if not isinstance(item, str))
            raise UnusableItem("The model reads texts, not images.", index=index)
        rows = np.empty((len(texts), self.layers[0][1]), np.float32)
        with self._connect() as client:
            for start in range(0, len(texts), self._endpoint.batch):
                part = texts[start : start + self._endpoint.batch]
                rows[start : start + len(part)] = self._embed(client, part, start)
        return Encoded((rows,) * asked)

    def _connect(self) -> httpx2.Client:
        key = self._endpoint.api_key
        return httpx2.Client(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(self._endpoint.timeout_s, connect=CONNECT_TIMEOUT_S),
        )

    def _embed(self, client: httpx2.Client, texts: list[str], start: int) -> Rows:
        """The rows of some texts; texts that are refused together are tried in halves, until one is refused alone."""
        try:
            answer = self._retry(client, texts)
        except EndpointRefusal as refused:
            if refused.status not in TEXT_ERROR_STATUSES:
                raise self._failed(f"answers {refused.status}", refused.said) from refused
            if len(texts) == 1:
                raise UnusableItem(
                    f"The server of {self._name} refuses the text: {refused.said.rstrip('.')}.",
                    index=start,
                    value=texts[0],
                ) from refused
            half = len(texts) // 2
            parts = (self._embed(client, texts[:half], start), self._embed(client, texts[half:], start + half))
            return np.concatenate(parts)
        except httpx2.TransportError as error:
            raise self._failed("does not answer", str(error) or type(error).__name__) from error
        try:
            return parse_response(answer, len(texts), self._dim)
        except ValueError as error:
            raise self._failed("answers with something else than embeddings", str(error)) from error

    def _retry(self, client: httpx2.Client, texts: list[str]) -> bytes:
        retry_timeout_s = self._endpoint.retry_timeout_s
        deadline = time.monotonic() + retry_timeout_s

        def pace(error: Exception) -> bool | float:
            if not isinstance(error, EndpointRefusal):
                return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)
            wait_s = parse_retry_after(error.retry_after)
            return error.status in RETRYABLE_STATUSES and time.monotonic() + wait_s < deadline and (wait_s or True)

        caller = stamina.RetryingCaller(
            attempts=None, timeout=retry_timeout_s, wait_initial=0.1, wait_max=5.0, wait_jitter=0.1
        )
        return caller(pace, self._ask, client, texts)

    def _ask(self, client: httpx2.Client, texts: list[str]) -> bytes:
        body = {"model": self._endpoint.model, "input": texts, "encoding_format": "float"}
        limit = ENVELOPE_BYTES + len(texts) * (self._dim or DIM_MAX) * NUMBER_BYTES
        deadline = time.monotonic() + self._endpoint.timeout_s
        with client.stream("POST", f"{self._endpoint.url.rstrip('/')}/embeddings", json=body) as response:
            answer = bytearray()
            for chunk in response.iter_bytes():
                answer += chunk
                if len(answer) > limit:
                    raise EndpointRefusal(HTTPStatus.BAD_GATEWAY, "", f"more than {limit} bytes")
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("the answer takes too long")
        if response.status_code != HTTPStatus.OK:
            raise EndpointRefusal(
                response.status_code, response.headers.get("retry-after", ""), read_error_message(bytes(answer))
            )
        return bytes(answer)

    def _failed(self, what: str, why: str) -> EndpointFailed:
        return EndpointFailed(
            f"The server of {self._name} {what}: {why.rstrip('.')}.",
            value=self._name,
            hint="What was embedded before it is kept: try again, or ask the operator to look at the server.",
        )


def read_error_message(answer: bytes) -> str:
    """What a server says of its refusal, in the forms that are about, shortened."""
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return answer[:200].decode(errors="replace") or "nothing said"
    error = document.get("error", document) if isinstance(document, dict) else document
    said = error.get("message", error.get("detail", error)) if isinstance(error, dict) else error
    return str(said)[:200]


def parse_retry_after(retry_after: str) -> float:
    """What a Retry-After header asks for, a number or a date; 0 where there is none."""
    if retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
