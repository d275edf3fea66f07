"""The client for ordinary code.

from consilience.client.sync import Client

with Client("http://127.0.0.1:8000") as client:
    scores = client.align("old.npy", "new.npy", metrics=["mutual_knn"]).wait()
    print(scores.scores[0].value)
"""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx2
import stamina

from consilience.client import operations
from consilience.client.calls.alignments import AlignmentCalls
from consilience.client.calls.datasets import DatasetCalls
from consilience.client.calls.embeddings import EmbeddingCalls
from consilience.client.calls.maps import MapCalls
from consilience.client.calls.references import ReferenceCalls
from consilience.client.calls.studies import StudyCalls
from consilience.client.calls.upgrades import UpgradeCalls
from consilience.client.exchange import Operation, Request, Result
from consilience.client.sending import Busy, address, refuse_later, retries, timeouts, unreachable, with_key
from consilience.contract.info import Info
from consilience.contract.metrics import Catalogue

DEFAULT_URL = "http://127.0.0.1:8000"


class Client(
    EmbeddingCalls,
    DatasetCalls,
    ReferenceCalls,
    AlignmentCalls,
    StudyCalls,
    MapCalls,
    UpgradeCalls,
):
    """A connection to one service.

    Parameters
    ----------
    url : str
        Where the service is.
    timeout_s : float
        Seconds to wait for one answer.
    patience_s : float
        Seconds during which a connection that fails, or a service that asks to come back later, is tried again.
    headers : mapping, optional
        Sent with every request.
    api_key : str, optional
        The service's key, ``csl_...``; by default the environment's CONSILIENCE_API_KEY, where there is one.

    Every method raises the class of `consilience.errors` that matches the problem document, and Unreachable when
    no answer comes.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = 120.0,
        patience_s: float = 10.0,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        self._http = httpx2.Client(
            base_url=address(url), timeout=timeouts(timeout_s), headers=with_key(headers, api_key)
        )
        self._retries = retries(patience_s)

    def info(self) -> Info:
        """What the service is and what it allows."""
        return self._run(operations.info())

    def metrics(self) -> Catalogue:
        """The service's metrics."""
        return self._run(operations.metrics())

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, operation: Operation[Result]) -> Result:
        try:
            request = next(operation)
            while True:
                request = operation.send(self._send(request))
        except StopIteration as end:
            result: Result = end.value
            return result

    def _send(self, request: Request) -> httpx2.Response:
        time.sleep(request.after_s)
        try:
            for attempt in stamina.retry_context(**self._retries):
                with attempt:
                    return refuse_later(self._send_once(request))
        except Busy as busy:
            return busy.response
        except httpx2.TransportError as error:
            raise unreachable(self._http.base_url, request, error) from error
        raise AssertionError("the retry loop returns or raises")

    def _send_once(self, request: Request) -> httpx2.Response:
        return self._http.request(
            request.method,
            request.path,
            params=request.params,
            headers=request.all_headers,
            json=request.json,
            content=request.body.chunks() if request.body else None,
        )
