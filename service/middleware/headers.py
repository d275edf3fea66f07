"""Header fields that every answer has: what a browser may do with it, which is next to nothing."""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consilience.errors import WrongHost, WrongOrigin
from consilience.settings import PREFIX

AUTHORITY = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s\[\]:/?#@\\]*))(:\d*)?")
SETTING = f"{PREFIX}ALLOWED_HOSTS"


@dataclass(frozen=True)
class HostCheck:
    """The names of the service, lower-case and without ports, besides those that no stranger can own."""

    names: Collection[str] = ()

    def check_host(self, headers: Headers) -> None:
        """Refuse a request that was sent to a name which is not the service's.

        Raises
        ------
        WrongHost
            The name is no address, not localhost, has a dot and is not among `names`.
        """
        host = headers.get("host", "")
        name = _host_name(host)
        if name is None or not self._is_own(name):
            raise WrongHost(
                "Without an API key this service does not answer to that name.",
                value=host,
                hint=f"Use its address or localhost, or let the operator list the name in {SETTING}.",
            )

    def check_origin(self, headers: Headers) -> None:
        """Refuse a request that a page of another site sent.

        Raises
        ------
        WrongOrigin
            `Origin` is there, and is neither the host that was asked nor among `names`.
        """
        origin = headers.get("origin")
        if origin is None:
            return
        place = _authority_of(origin)
        is_own = place == headers.get("host", "").lower() or _host_name(place) in self.names
        if not place or not is_own:
            raise WrongOrigin(
                "A page of another site may not change anything here.",
                value=origin,
                hint=f"Pages of a site that the operator lists in {SETTING} may.",
            )

    def _is_own(self, name: str) -> bool:
        """Rebinding needs a name in the public DNS: an address is none, and one without a dot belongs to nobody there."""
        return "." not in name or name.endswith(".localhost") or name in self.names or _is_address(name)


def _authority_of(origin: str) -> str:
    """`https://example.org:8443` as `example.org:8443`; `null` is no place."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _host_name(place: str) -> str | None:
    """`Example.org.:8443` as `example.org`, `[::1]:8000` as `::1`; None where it is no place."""
    found = AUTHORITY.fullmatch(place)
    return (found["v6"] or found["name"]).lower().removesuffix(".") if found else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


#: A page that needs more says so itself; an answer of the API needs nothing.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Answers hold a company's scores: no proxy and no disk keeps them, unless a route says otherwise.
    "Cache-Control": "no-store",
}


class SecurityHeadersMiddleware:
    """ASGI middleware: adds those fields that the answer does not have yet."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_safely)
