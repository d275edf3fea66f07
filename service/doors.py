"""By which name and from which page someone without a key may come.

A service without keys trusts whoever reaches it, and a browser on the same machine reaches it for any page that it shows.
Such a page can send forms here, and, once its own name leads to this address (DNS rebinding), read the answers too. What it
cannot do is lie about its name: the browser writes `Host` and `Origin`. A key is protection enough: no page can send one.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from consilience.errors import WrongHost, WrongOrigin
from consilience.surroundings import PREFIX

PLACE = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s\[\]:/?#@\\]*))(:\d*)?")
SETTING = f"{PREFIX}ALLOWED_HOSTS"


@dataclass(frozen=True)
class Doors:
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
        name = _name_of(host)
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
        place = _place_of(origin)
        is_own = place == headers.get("host", "").lower() or _name_of(place) in self.names
        if not place or not is_own:
            raise WrongOrigin(
                "A page of another site may not change anything here.",
                value=origin,
                hint=f"Pages of a site that the operator lists in {SETTING} may.",
            )

    def _is_own(self, name: str) -> bool:
        """Rebinding needs a name in the public DNS: an address is none, and one without a dot belongs to nobody there."""
        return "." not in name or name.endswith(".localhost") or name in self.names or _is_address(name)


def _place_of(origin: str) -> str:
    """`https://example.org:8443` as `example.org:8443`; `null` is no place."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name_of(place: str) -> str | None:
    """`Example.org.:8443` as `example.org`, `[::1]:8000` as `::1`; None where it is no place."""
    found = PLACE.fullmatch(place)
    return (found["v6"] or found["name"]).lower().removesuffix(".") if found else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
