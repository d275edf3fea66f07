"""When to send a request again, and what it means when no answer comes."""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from consilience.client.exchange import Request
from consilience.contract.keys import TOKEN
from consilience.errors import InvalidRequest, Unreachable

#: Answers that say "later": too many requests, and a part that does not answer just now.
LATER = frozenset({429, 503})
CONNECT_TIMEOUT_S = 5.0
#: Where an API key is taken from: never from the command line, which every user of a machine can read.
KEY_VARIABLE = "CONSILIENCE_API_KEY"


class Busy(Exception):
    """The service asked to come back later; carries its answer through the retry loop, never seen outside."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def address(url: str) -> str:
    """The service's URL.

    Raises
    ------
    InvalidRequest
        It is none.
    """
    try:
        found = urlsplit(url)
        sound = found.scheme in {"http", "https"} and bool(found.hostname) and found.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise InvalidRequest(
            f"{url!r} is no address of a service.",
            value=url,
            hint="Write http://HOST:PORT, such as http://127.0.0.1:8000.",
        )
    return url


def with_key(headers: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    """The headers with the API key, by default that of the environment.

    Raises
    ------
    InvalidRequest
        It cannot be a key: found here, because the error of whoever sends it would quote it.
    """
    key = os.environ.get(KEY_VARIABLE) if api_key is None else api_key
    if not key:
        return dict(headers or {})
    if not TOKEN.fullmatch(key):
        raise InvalidRequest(
            "The API key is not one of Consilience's.", hint=f"It looks like csl_...; see {KEY_VARIABLE}."
        )
    return {**(headers or {}), "authorization": f"Bearer {key}"}


def refuse_later(response: httpx2.Response) -> httpx2.Response:
    """The response, unless it says "later"."""
    if response.status_code in LATER:
        raise Busy(response)
    return response


def retries(patience_s: float) -> dict[str, Any]:
    """How often to try: until `patience_s` seconds have passed, at the pace that the service asks for.

    Every call of ours may be repeated: uploads are the same set by content, alignments carry a key.
    """

    def pace(error: Exception) -> bool | float:
        if isinstance(error, Busy):
            wait_s = _retry_after(error.response)
            return wait_s <= patience_s and (wait_s or True)
        return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)

    return {
        "on": pace,
        "attempts": None,
        "timeout": patience_s,
        "wait_initial": 0.05,
        "wait_max": 2.0,
        "wait_jitter": 0.05,
    }


def timeouts(timeout_s: float) -> httpx2.Timeout:
    """Connecting is quick or hopeless; an answer may take a while when gigabytes were sent."""
    return httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))


def unreachable(base_url: httpx2.URL, request: Request, error: httpx2.TransportError) -> Unreachable:
    """What to raise when every attempt failed."""
    return Unreachable(
        f"No answer from {base_url} to {request.method} {request.path}: {str(error) or type(error).__name__}.",
        value=str(base_url),
        hint="Is the service running there? `consilience serve` starts one.",
    )


def _retry_after(response: httpx2.Response) -> float:
    """Seconds; 0 where the header is missing or a date, which our service never sends."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() else 0.0
