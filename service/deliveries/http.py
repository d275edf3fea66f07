"""Requests to addresses that users name: to public hosts alone, unless the operator allows others.

The check is made of the address that the connection goes to, after the name was resolved and once: a name that means
another address the next time it is asked (DNS rebinding) gains nothing. Redirects are not followed, proxies of the
environment are not used, and no more is read of an answer than its head.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpcore2

from consilience.errors import InvalidRequest

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: IPv6 of the whole internet (IANA); everything else is local, reserved, or another way to write an IPv4 address.
GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
#: Inside it, or among IPv4's public addresses by Python's table, and yet no public host.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(each)
    for each in (
        "100.64.0.0/10",  # carriers; metadata at Alibaba Cloud
        "168.63.129.16/32",  # metadata at Azure
        "192.0.0.0/24",  # protocols; metadata at Oracle Cloud
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocols, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in other words
        "3fff::/20",
    )
)


class AddressRefused(InvalidRequest):
    """A user's URL leads to an address that requests may not go to."""


@dataclass(frozen=True)
class Destinations:
    """Where requests may go: public hosts, and what the operator allows besides."""

    allowed: tuple[Network, ...] = ()

    def permit(self, address: IPAddress) -> bool:
        """Whether a connection to this address may be made."""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self.allowed) or _is_public(address)

    def check_host(self, host: str) -> None:
        """Refuse early what needs no look-up: an address that may not be connected to, and `localhost`."""
        named_loopback = host.rstrip(".").rpartition(".")[2] == "localhost"
        try:
            address = ipaddress.ip_address("127.0.0.1" if named_loopback else host.strip("[]"))
        except ValueError:
            return
        if not self.permit(address):
            raise _refused(host)

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to.

        Raises
        ------
        AddressRefused
            There are addresses, but none that may.
        OSError
            The name cannot be resolved.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        texts = dict.fromkeys(str(place[0]) for *_, place in found)
        permitted = [text for text in texts if self.permit(ipaddress.ip_address(text.partition("%")[0]))]
        if not permitted:
            raise _refused(host)
        return permitted


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_IPV6:
        return False
    special = address.is_multicast or address.is_reserved or any(address in network for network in NOT_PUBLIC)
    return address.is_global and not special


def _refused(host: str) -> AddressRefused:
    return AddressRefused(
        f"{host} is not a public host: requests to it are refused.",
        value=host,
        hint="The operator can allow its network with CONSILIENCE_WEBHOOK_ALLOW.",
    )


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    destinations: Destinations,
    timeout_s: float,
    ssl_context: ssl.SSLContext | None = None,
) -> int:
    """Send one POST; the status of the answer. A redirect is an answer like any other.

    Raises
    ------
    AddressRefused
        The host has no address that may be connected to.
    httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError
        There was no answer within `timeout_s` in all, or none that is HTTP.
    """
    backend = GuardedBackend(destinations, time.monotonic() + timeout_s)
    with (
        httpcore2.ConnectionPool(ssl_context=ssl_context, network_backend=backend) as pool,
        pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
    ):
        return response.status


class GuardedBackend(httpcore2.NetworkBackend):
    """Connections to permitted addresses alone, which all end at the deadline."""

    def __init__(self, destinations: Destinations, deadline: float) -> None:
        self._destinations, self._deadline = destinations, deadline
        self._bare = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline is stricter
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Resolve the name once, and connect to the first address that is permitted and answers."""
        try:
            addresses = self._destinations.resolve(host, port)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from error
        failure: Exception | None = None
        for address in addresses:
            try:
                left_s = remaining_s(self._deadline)
                stream = self._bare.connect_tcp(address, port, left_s, local_address, socket_options)
            except httpcore2.ConnectError as error:
                failure = error
            else:
                return TimedStream(stream, self._deadline)
        raise failure or httpcore2.ConnectError(f"{host} has no address")


class TimedStream(httpcore2.NetworkStream):
    """A stream whose every step ends at the deadline, however slowly the other side drips."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline is stricter
        """As the stream does."""
        return self._stream.read(max_bytes, remaining_s(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the same
        """As the stream does."""
        self._stream.write(buffer, remaining_s(self._deadline))

    def close(self) -> None:
        """As the stream does."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the same
    ) -> httpcore2.NetworkStream:
        """As the stream does; the certificate must be the name's, not the address's."""
        stream = self._stream.start_tls(ssl_context, server_hostname, remaining_s(self._deadline))
        return TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """As the stream does."""
        return self._stream.get_extra_info(info)


def remaining_s(deadline: float) -> float:
    """Until the deadline; TimeoutException after it."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise httpcore2.ReadTimeout("the time for one attempt is over")
    return left_s


PREFIX = "whsec_"
KEY_BYTES = range(24, 65)


def parse_secret(text: str) -> bytes:
    """The key of a secret, `whsec_` and base64 of 24 to 64 bytes; ValueError, which never quotes it, otherwise."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(PREFIX) or len(key) not in KEY_BYTES:
        raise ValueError("a secret is `whsec_` and the base64 of 24 to 64 random bytes")
    return key


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The header fields of a signed message: one signature for each key, so that keys can be changed in peace."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}
