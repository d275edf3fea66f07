"""Signed HTTP requests to URLs of users, only to public hosts unless the operator allows others.

The host name is resolved once, and the resolved address is checked, so that DNS rebinding has no effect. Redirects are not
followed, proxies of the environment are not used, and only the status and headers of a response are read.
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

#: Global unicast IPv6 addresses (IANA); all others are local, reserved or map to IPv4.
GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
#: Networks that are not public, although they are global unicast or public by Python's tables.
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
    """The URL of a user leads to an address that is not allowed."""


@dataclass(frozen=True)
class Destinations:
    """Allowed destinations: public hosts, and networks that the operator allows."""

    allowed: tuple[Network, ...] = ()

    def permit(self, address: IPAddress) -> bool:
        """Return whether connections to this address are allowed."""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self.allowed) or _is_public(address)

    def check_host(self, host: str) -> None:
        """Refuse an address that is not allowed, or `localhost`, without resolving a name."""
        named_loopback = host.rstrip(".").rpartition(".")[2] == "localhost"
        try:
            address = ipaddress.ip_address("127.0.0.1" if named_loopback else host.strip("[]"))
        except ValueError:
            return
        if not self.permit(address):
            raise _refused(host)

    def resolve(self, host: str, port: int) -> list[str]:
        """Resolve a host name and return its allowed addresses.

        Raises
        ------
        AddressRefused
            None of the addresses is allowed.
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
        f"The host {host!r} is not public, and the service does not send requests to it.",
        value=host,
        hint="Use a public host, or ask the operator to add its network to CONSILIENCE_WEBHOOK_ALLOW.",
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
    """Send one POST request and return the status of the response. Redirects are not followed.

    Raises
    ------
    AddressRefused
        The host has no allowed address.
    httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError
        There was no valid response within `timeout_s`.
    """
    backend = GuardedBackend(destinations, time.monotonic() + timeout_s)
    with (
        httpcore2.ConnectionPool(ssl_context=ssl_context, network_backend=backend) as pool,
        pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
    ):
        return response.status


class GuardedBackend(httpcore2.NetworkBackend):
    """Network backend that connects only to allowed addresses and until a deadline."""

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
        """Resolve the name once and connect to the first allowed address that responds."""
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
    """Network stream whose operations all end at the deadline."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline is stricter
        """Read from the stream."""
        return self._stream.read(max_bytes, remaining_s(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the same
        """Write to the stream."""
        self._stream.write(buffer, remaining_s(self._deadline))

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the same
    ) -> httpcore2.NetworkStream:
        """Start TLS; the certificate must match the host name, not the address."""
        stream = self._stream.start_tls(ssl_context, server_hostname, remaining_s(self._deadline))
        return TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Return information about the stream."""
        return self._stream.get_extra_info(info)


def remaining_s(deadline: float) -> float:
    """Return the seconds until the deadline; raises ReadTimeout after it."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise httpcore2.ReadTimeout("the attempt exceeded its timeout")
    return left_s


PREFIX = "whsec_"
KEY_BYTES = range(24, 65)


def parse_secret(text: str) -> bytes:
    """Return the key of a secret, `whsec_` and base64 of 24 to 64 bytes. The ValueError never quotes an invalid secret."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(PREFIX) or len(key) not in KEY_BYTES:
        raise ValueError("a secret must be `whsec_` followed by the base64 encoding of 24 to 64 random bytes")
    return key


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a signed message, with one signature for each key to allow key rotation."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}
