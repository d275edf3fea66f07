"""Requests to URLs of users: allowed destinations and hostile receivers."""

import ipaddress
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpcore2
import pytest

from service.deliveries.http import AddressRefused, Destinations, post

LOOPBACK = Destinations((ipaddress.ip_network("127.0.0.0/8"),))
NO_HTTP = (httpcore2.ProtocolError, httpcore2.NetworkError)
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


def receive(connection: socket.socket) -> bytes:
    """Read a whole request with the body `{}`; unread data would reset the connection."""
    received = b""
    while not received.endswith(b"{}") and (more := connection.recv(65536)):
        received += more
    return received


@contextmanager
def listening(answer: Callable[[socket.socket], None], address: str = "127.0.0.1") -> Iterator[tuple[int, list[bytes]]]:
    """Run a server with one handler for each connection, and yield its port and the received headers."""
    heads: list[bytes] = []
    with socket.create_server((address, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heads.append(receive(connection))
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], heads
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def send(url: str, destinations: Destinations = LOOPBACK, timeout_s: float = 5.0) -> int:
    return post(url, b"{}", {"content-type": "application/json"}, destinations=destinations, timeout_s=timeout_s)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),  # noqa: S104 - it is refused
        *(
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "203.0.113.9",
        ),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
        *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1", "100::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:7f00:1::", "5f00::1"),
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not Destinations().permit(ipaddress.ip_address(address))
    with pytest.raises(AddressRefused, match="CONSILIENCE_WEBHOOK_ALLOW"):
        Destinations().check_host(f"[{address}]" if ":" in address else address)
    with pytest.raises(AddressRefused):
        Destinations().resolve(address, 80)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "2001:4860::8888"]
)
def test_a_public_host_is_allowed(address: str) -> None:
    assert Destinations().permit(ipaddress.ip_address(address))


@pytest.mark.parametrize("name", ["localhost", "localhost.", "api.localhost"])
def test_names_of_this_machine_are_refused_without_resolving_them(name: str) -> None:
    with pytest.raises(AddressRefused):
        Destinations().check_host(name)


def test_other_names_are_resolved_only_when_the_message_is_sent() -> None:
    Destinations().check_host("no-such-host.invalid")
    with pytest.raises(httpcore2.ConnectError, match="cannot be resolved"):
        send("http://no-such-host.invalid/", Destinations())


def test_only_networks_that_the_operator_lists_are_allowed_besides() -> None:
    destinations = Destinations((ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd12::/16")))
    permitted = {
        each: destinations.permit(ipaddress.ip_address(each)) for each in ("10.1.2.3", "10.2.0.1", "fd12::1", "::1")
    }
    assert permitted == {"10.1.2.3": True, "10.2.0.1": False, "fd12::1": True, "::1": False}


def test_a_request_to_loopback_makes_no_connection() -> None:
    with listening(lambda connection: connection.sendall(OK)) as (port, heads):
        for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001"):
            with pytest.raises(AddressRefused):
                send(f"http://{host}:{port}/", Destinations())
    assert heads == []


def test_the_request_is_received_as_it_was_sent() -> None:
    with listening(lambda connection: connection.sendall(OK)) as (port, heads):
        assert send(f"http://localhost:{port}/in?x=1") == 204
    head = heads[0].decode()
    assert head.startswith("POST /in?x=1 HTTP/1.1\r\n")
    assert f"Host: localhost:{port}\r\n" in head
    assert "Content-Length: 2\r\n" in head


def test_dns_rebinding_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public address at first and a loopback address later: the checked address is used."""
    looks: list[str] = []

    def rebinding(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host[0].isdigit():  # an address: the connection itself
            looks.append(host)
            raise OSError("no network in this test")
        looks.append(host)
        address = "93.184.216.34" if looks == [host] else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with listening(lambda connection: connection.sendall(OK)) as (port, heads):
        with pytest.raises(httpcore2.ConnectError):
            send(f"http://rebind.example:{port}/", Destinations())
        assert looks == ["rebind.example", "93.184.216.34"]
        with pytest.raises(AddressRefused):
            send(f"http://rebind.example:{port}/", Destinations())
    assert heads == []


def test_only_allowed_addresses_of_a_host_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def several(host: str, port: int, *rest: object, **more: object) -> object:
        if host != "several.example":
            return real(host, port, *rest, **more)  # type: ignore[arg-type]  # passed on as it came
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    only_two = Destinations((ipaddress.ip_network("127.0.0.2/32"),))
    with listening(lambda connection: connection.sendall(OK), "0.0.0.0") as (port, heads):  # noqa: S104 - both addresses
        assert send(f"http://several.example:{port}/", only_two) == 204
    assert len(heads) == 1


def test_a_redirect_is_not_followed() -> None:
    with listening(lambda connection: connection.sendall(OK)) as (inner, inner_heads):
        redirect = (
            f"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{inner}/\r\nContent-Length: 0\r\n\r\n"
        )
        with listening(lambda connection: connection.sendall(redirect.encode())) as (port, heads):
            assert send(f"http://127.0.0.1:{port}/") == 307
    assert (len(heads), inner_heads) == (1, [])


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(lambda connection: connection.sendall(OK)) as (proxy, proxy_heads):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        with listening(lambda connection: connection.sendall(OK)) as (port, _):
            assert send(f"http://127.0.0.1:{port}/") == 204
    assert proxy_heads == []


def drip(connection: socket.socket) -> None:
    for _ in range(100):
        connection.sendall(b"H")
        time.sleep(0.05)


def drip_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(100):
        connection.sendall(b"X-%d: y\r\n" % number)
        time.sleep(0.05)


def continue_for_ever(connection: socket.socket) -> None:
    for _ in range(1000):
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.01)


def say_nothing(connection: socket.socket) -> None:
    time.sleep(2)


@pytest.mark.parametrize("answer", [drip, drip_headers, continue_for_ever, say_nothing])
def test_the_timeout_covers_a_whole_attempt(answer: Callable[[socket.socket], None]) -> None:
    with listening(answer) as (port, _):
        started = time.monotonic()
        with pytest.raises((httpcore2.TimeoutException, httpcore2.ProtocolError)):
            send(f"http://127.0.0.1:{port}/", timeout_s=0.3)
        assert time.monotonic() - started < 1


def test_endless_headers_are_refused() -> None:
    endless = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000_000
    with listening(lambda connection: connection.sendall(endless)) as (port, _), pytest.raises(NO_HTTP):
        send(f"http://127.0.0.1:{port}/")


def test_an_endless_body_is_not_read() -> None:
    sent = [0]

    def flood(connection: socket.socket) -> None:
        connection.settimeout(2)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        while True:
            sent[0] += connection.send(b"x" * 65536)

    with listening(flood) as (port, _):
        started = time.monotonic()
        assert send(f"http://127.0.0.1:{port}/") == 200
        assert time.monotonic() - started < 1
    assert sent[0] < 20_000_000, "what fits into the kernel's buffers, and no more"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 100, b"HTTP/1.1 abc\r\n\r\n"])
def test_an_invalid_http_response_is_an_error(answer: bytes) -> None:
    with listening(lambda connection: connection.sendall(answer)) as (port, _), pytest.raises(NO_HTTP):
        send(f"http://127.0.0.1:{port}/")


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key, pem = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", pem, *subject],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, pem


@pytest.mark.parametrize(("name", "accepted"), [("localhost", True), ("other.example", False)])
def test_the_certificate_must_match_the_host_name(tmp_path: Path, name: str, accepted: bool) -> None:
    key, pem = certificate(tmp_path, name)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(pem, key)
    client_context = ssl.create_default_context(cafile=str(pem))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            try:
                with server_context.wrap_socket(connection, server_side=True) as secured:
                    receive(secured)
                    secured.sendall(OK)
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://localhost:{server.getsockname()[1]}/"
        if accepted:
            assert post(url, b"{}", {}, destinations=LOOPBACK, timeout_s=5, ssl_context=client_context) == 204
        else:
            with pytest.raises(httpcore2.ConnectError, match=r"(?i)hostname mismatch|certificate"):
                post(url, b"{}", {}, destinations=LOOPBACK, timeout_s=5, ssl_context=client_context)
        thread.join(5)
