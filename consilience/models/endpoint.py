"""Models of the kind `endpoint:`: embedding servers of the operator with an OpenAI-compatible API.

Such servers are TEI, vLLM, Infinity and OpenAI. Every response is checked: as many rows as texts, in their order, all of one
dim and finite.
"""

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
from consilience.models.base import (
    EmbeddingRows,
    Encoded,
    ModelInput,
    UnusableItem,
    find_layer_indices,
    library_versions,
)
from consilience.models.rules import Endpoint, ModelRules, find_endpoint

DIM_MAX = 65_536


def parse_response(content: bytes, n: int, dim: int | None) -> EmbeddingRows:
    """Return the rows (n, dim) of a response; ValueError says what is wrong with it.

    Parameters
    ----------
    content : bytes
        JSON: ``{"data": [{"index": 0, "embedding": [...]}, ...]}``; entries may come in any order.
    n : int
        Number of texts that were sent.
    dim : int or None
        Dim of earlier responses, if any.
    """
    try:
        document = json.loads(content)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise ValueError("it has no list `data` of objects")
    indices = [entry.get("index", position) for position, entry in enumerate(data)]
    if any(type(index) is not int for index in indices) or sorted(indices) != list(range(n)):
        raise ValueError(f"{n} texts were sent, but its {len(indices)} entries do not have the indices 0 to {n - 1}")
    rows = [_parse_row(entry.get("embedding")) for entry in data]
    dims = {len(row) for row in rows}
    if len(dims) != 1 or dims == {0} or (dim is not None and dims != {dim}):
        found = ", ".join(map(str, sorted(dims)))
        raise ValueError(f"its embeddings have dim {found}, but {dim or 'a single dim'} was expected")
    try:
        wide = np.array(rows, np.float64)
    except OverflowError as error:
        raise ValueError("a value is too large for a float") from error
    if not (np.abs(wide) <= np.finfo(np.float32).max).all():  # False for NaN too
        raise ValueError("a value is not finite")
    return wide[np.argsort(indices)].astype(np.float32)


def _parse_row(values: object) -> list[float]:
    if not isinstance(values, list) or len(values) > DIM_MAX:
        raise ValueError(f"an embedding is not a list of at most {DIM_MAX} numbers")
    if not all(type(value) in {float, int} for value in values):
        raise ValueError("a value of an embedding is not a number")
    return values


#: Name of the only layer.
LAYER = "embedding"
CONNECT_TIMEOUT_S = 5.0
#: Statuses after which the request is retried.
RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
#: Statuses of errors about the texts: too long for the server, or too many at once.
TEXT_ERROR_STATUSES = frozenset({400, 413, 422})
#: Largest number of characters of a number in JSON, with its comma.
NUMBER_BYTES = 32
ENVELOPE_BYTES = 2**20


class EndpointRefusal(Exception):
    """An error response, on its way through the retry loop; never raised to callers."""

    def __init__(self, status: int, retry_after: str, message: str) -> None:
        super().__init__(status)
        self.status, self.retry_after, self.message = status, retry_after, message


def open_endpoint(identifier: str, name: str, rules: ModelRules) -> "EndpointModel":
    """Open the model of a server; embeds one short text to find the dim. Raises UnknownModel, EndpointFailed."""
    return EndpointModel(identifier, find_endpoint(identifier, name, rules))


class EndpointModel:
    """A model that a server runs; responses are checked, and requests are retried while the server is busy or away.

    Parameters
    ----------
    identifier : str
        Identifier of the model in the user's request.
    endpoint : Endpoint
        Address and settings of the server.
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

    def encode(self, items: Sequence[ModelInput], layers: Sequence[str]) -> Encoded:
        """See `EmbeddingModel.encode`. The number of truncated texts is unknown, because the server does not report it."""
        copies = len(find_layer_indices(self.layers, layers))
        texts = [item for item in items if isinstance(item, str)]
        if len(texts) < len(items):
            index = next(index for index, item in enumerate(items) if not isinstance(item, str))
            raise UnusableItem("The model embeds texts, not images.", index=index)
        rows = np.empty((len(texts), self.layers[0][1]), np.float32)
        with self._connect() as client:
            for start in range(0, len(texts), self._endpoint.batch):
                part = texts[start : start + self._endpoint.batch]
                rows[start : start + len(part)] = self._embed(client, part, start)
        return Encoded((rows,) * copies)

    def _connect(self) -> httpx2.Client:
        key = self._endpoint.api_key
        return httpx2.Client(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(self._endpoint.timeout_s, connect=CONNECT_TIMEOUT_S),
        )

    def _embed(self, client: httpx2.Client, texts: list[str], start: int) -> EmbeddingRows:
        """Return the rows of some texts; refused texts are sent again in halves, down to the single text at fault."""
        try:
            content = self._retry(client, texts)
        except EndpointRefusal as refusal:
            if refusal.status not in TEXT_ERROR_STATUSES:
                raise self._failed(f"responded with status {refusal.status}", refusal.message) from refusal
            if len(texts) == 1:
                raise UnusableItem(
                    f"The server of {self._name} refuses the text: {refusal.message.rstrip('.')}.",
                    index=start,
                    value=texts[0],
                ) from refusal
            half = len(texts) // 2
            parts = (self._embed(client, texts[:half], start), self._embed(client, texts[half:], start + half))
            return np.concatenate(parts)
        except httpx2.TransportError as error:
            raise self._failed("does not respond", str(error) or type(error).__name__) from error
        try:
            return parse_response(content, len(texts), self._dim)
        except ValueError as error:
            raise self._failed("sent an invalid response", str(error)) from error

    def _retry(self, client: httpx2.Client, texts: list[str]) -> bytes:
        retry_timeout_s = self._endpoint.retry_timeout_s
        deadline = time.monotonic() + retry_timeout_s

        def retry_delay(error: Exception) -> bool | float:
            if not isinstance(error, EndpointRefusal):
                return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)
            wait_s = parse_retry_after(error.retry_after)
            return error.status in RETRYABLE_STATUSES and time.monotonic() + wait_s < deadline and (wait_s or True)

        caller = stamina.RetryingCaller(
            attempts=None, timeout=retry_timeout_s, wait_initial=0.1, wait_max=5.0, wait_jitter=0.1
        )
        return caller(retry_delay, self._post, client, texts)

    def _post(self, client: httpx2.Client, texts: list[str]) -> bytes:
        body = {"model": self._endpoint.model, "input": texts, "encoding_format": "float"}
        limit = ENVELOPE_BYTES + len(texts) * (self._dim or DIM_MAX) * NUMBER_BYTES
        deadline = time.monotonic() + self._endpoint.timeout_s
        with client.stream("POST", f"{self._endpoint.url.rstrip('/')}/embeddings", json=body) as response:
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > limit:
                    raise EndpointRefusal(HTTPStatus.BAD_GATEWAY, "", f"the response has more than {limit} bytes")
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("the response takes too long")
        if response.status_code != HTTPStatus.OK:
            raise EndpointRefusal(
                response.status_code, response.headers.get("retry-after", ""), read_error_message(bytes(content))
            )
        return bytes(content)

    def _failed(self, what: str, why: str) -> EndpointFailed:
        return EndpointFailed(
            f"The server of {self._name} {what}: {why.rstrip('.')}.",
            value=self._name,
            hint="Try again, or ask the operator to check the server; rows that are already computed are kept.",
        )


def read_error_message(content: bytes) -> str:
    """Return the message of an error response in any of the usual forms, shortened."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return content[:200].decode(errors="replace") or "no message"
    error = document.get("error", document) if isinstance(document, dict) else document
    message = error.get("message", error.get("detail", error)) if isinstance(error, dict) else error
    return str(message)[:200]


def parse_retry_after(retry_after: str) -> float:
    """Return the seconds of a Retry-After header, which is a number or a date; 0 without one."""
    if retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
