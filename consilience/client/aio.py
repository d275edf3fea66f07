"""The client for asyncio: the same words as `consilience.client.sync`, awaited.

from consilience.client.aio import AsyncClient

async with AsyncClient("http://127.0.0.1:8000") as client:
    alignment = await client.align("old.npy", "new.npy", metrics=["mutual_knn"])
    print((await alignment.wait()).scores[0].value)
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Self

import httpx2
import stamina

from consilience.client import operations
from consilience.client.calls.alignments import AsyncAlignmentCalls
from consilience.client.calls.datasets import AsyncDatasetCalls
from consilience.client.calls.embeddings import AsyncEmbeddingCalls
from consilience.client.calls.maps import AsyncMapCalls
from consilience.client.calls.references import AsyncReferenceCalls
from consilience.client.calls.studies import AsyncStudyCalls
from consilience.client.calls.upgrades import AsyncUpgradeCalls
from consilience.client.exchange import Body, Operation, Request, Result
from consilience.client.sending import Busy, address, refuse_later, retries, timeouts, unreachable, with_key
from consilience.client.sync import DEFAULT_URL
from consilience.contract.info import Info
from consilience.contract.metrics import Catalogue


class AsyncClient(
    AsyncEmbeddingCalls,
    AsyncDatasetCalls,
    AsyncReferenceCalls,
    AsyncAlignmentCalls,
    AsyncStudyCalls,
    AsyncMapCalls,
    AsyncUpgradeCalls,
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
        self._http = httpx2.AsyncClient(
            base_url=address(url), timeout=timeouts(timeout_s), headers=with_key(headers, api_key)
        )
        self._retries = retries(patience_s)

    async def info(self) -> Info:
        """What the service is and what it allows."""
        return await self._run(operations.info())

    async def metrics(self) -> Catalogue:
        """The service's metrics."""
        return await self._run(operations.metrics())

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, operation: Operation[Result]) -> Result:
        try:
            request = next(operation)
            while True:
                request = operation.send(await self._send(request))
        except StopIteration as end:
            result: Result = end.value
            return result

    async def _send(self, request: Request) -> httpx2.Response:
        await asyncio.sleep(request.after_s)
        try:
            async for attempt in stamina.retry_context(**self._retries):
                with attempt:
                    return refuse_later(await self._send_once(request))
        except Busy as busy:
            return busy.response
        except httpx2.TransportError as error:
            raise unreachable(self._http.base_url, request, error) from error
        raise AssertionError("the retry loop returns or raises")

    async def _send_once(self, request: Request) -> httpx2.Response:
        return await self._http.request(
            request.method,
            request.path,
            params=request.params,
            headers=request.all_headers,
            json=request.json,
            content=_stream(request.body) if request.body else None,
        )


async def _stream(body: Body) -> AsyncIterator[bytes]:
    """The body's chunks, read in a thread: a slow disk must not hold the event loop."""
    chunks = body.chunks()
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk
