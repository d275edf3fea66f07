"""HTTP protocol with timeouts that uvicorn lacks.

uvicorn closes a connection that is idle between two requests. But it has no timeout for the headers of a request, nor for the
rest of a request body after the response.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from consilience.contract.problems import PROBLEM_MEDIA_TYPE, TYPE_PREFIX, Problem
from service.middleware.headers import SECURITY_HEADERS


class Connection(H11Protocol):
    """Connection of one client, with a timeout from each response to the complete headers of the next request."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn's own
        """Start the timeout for the first request."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._disarm()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Stop the timeout when the headers of a request are complete; its body has its own limits."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._disarm()

    def on_response_complete(self) -> None:
        """Start the timeout for the rest of the body and the next request."""
        self._arm()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Send a problem document in response to data that are not valid HTTP."""
        problem = Problem(
            type=TYPE_PREFIX + "bad-request",
            title="Bad Request",
            status=400,
            detail=msg,
            hint="Send valid HTTP/1.1; the headers of a request can have at most 64 KiB.",
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
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:  # otherwise a response is in progress
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
