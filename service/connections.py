"""Connections that nobody can hold for nothing: what uvicorn leaves open.

uvicorn closes a connection that is silent between two requests. It waits without end for the rest of a request's head,
and after an answer it reads without end what is left of the request's body.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from consilience.contract.problems import PROBLEM_MEDIA_TYPE, TYPE_PREFIX, Problem
from service.middleware.headers import SECURITY_HEADERS


class Connection(H11Protocol):
    """One client. Between an answer and the next request's whole head lies no more than the keep-alive limit."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn's own
        """Wait for a head."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        self._disarm()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """A request whose head is there has limits of its own."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._disarm()

    def on_response_complete(self) -> None:
        """Wait for the next head, and read what may be left of the body, for a while."""
        self._arm()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """A problem document for what is no HTTP, as for everything else."""
        problem = Problem(
            type=TYPE_PREFIX + "bad-request",
            title="Bad Request",
            status=400,
            detail=msg,
            hint="Speak HTTP/1.1; a request's head has at most 64 KiB.",
        )
        body = problem.model_dump_json(exclude_none=True).encode()
        headers = [
            (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *((name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()),
        ]
        events = (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:  # otherwise an answer is under way
            for event in events:
                self.transport.write(self.conn.send(event))
        self.transport.close()

    def _arm(self) -> None:
        self._disarm()
        self._timer = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
