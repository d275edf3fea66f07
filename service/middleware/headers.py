"""Security headers of every response, and checks of the headers `Host` and `Origin`."""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consilience.errors import WrongHost, WrongOrigin
from consilience.quoting import QUOTED_LENGTH
from consilience.settings import PREFIX

AUTHORITY = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s\[\]:/?#@\\]*))(:\d*)?")
SETTING = f"{PREFIX}ALLOWED_HOSTS"


@dataclass(frozen=True)
class HostCheck:
    """Check of the headers `Host` and `Origin`; `names` are allowed host names in lower case without ports."""

    names: Collection[str] = ()

    def check_host(self, headers: Headers) -> None:
        """Refuse a request that was sent to another host name, as in a DNS rebinding attack.

        Raises
        ------
        WrongHost
            The host name contains a dot and is not an address, a name below localhost, or in `names`.
        """
        host = headers.get("host", "")
        name = _host_name(host)
        if name is None or not self._is_own(name):
            raise WrongHost(
                f"Requests without an API key cannot use the host name {host[:QUOTED_LENGTH]!r}.",
                value=host,
                hint=f"Use the address of the service or localhost, or ask the operator to add the name to {SETTING}.",
            )

    def check_origin(self, headers: Headers) -> None:
        """Refuse a request that a page of another site sent.

        Raises
        ------
        WrongOrigin
            The header `Origin` is neither the host of the request nor in `names`.
        """
        origin = headers.get("origin")
        if origin is None:
            return
        place = _authority_of(origin)
        is_own = place == headers.get("host", "").lower() or _host_name(place) in self.names
        if not place or not is_own:
            raise WrongOrigin(
                f"Pages of the site {origin[:QUOTED_LENGTH]!r} cannot send requests that change data.",
                value=origin,
                hint=f"Ask the operator to add the host of the site to {SETTING}.",
            )

    def _is_own(self, name: str) -> bool:
        """Return whether the name is safe. DNS rebinding needs a public DNS name, which contains a dot and is no address."""
        return "." not in name or name.endswith(".localhost") or name in self.names or _is_address(name)


def _authority_of(origin: str) -> str:
    """Return the authority of an origin, `example.org:8443` for `https://example.org:8443`; empty for `null`."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _host_name(place: str) -> str | None:
    """Return the host name of an authority: `example.org` for `Example.org.:8443`, `::1` for `[::1]:8000`."""
    found = AUTHORITY.fullmatch(place)
    return (found["v6"] or found["name"]).lower().removesuffix(".") if found else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


#: Default headers of a response; pages that need more permissions set their own.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Responses are confidential: proxies and browsers must not store them, unless a route allows it.
    "Cache-Control": "no-store",
}


class SecurityHeadersMiddleware:
    """ASGI middleware that adds the security headers that a response lacks."""

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
