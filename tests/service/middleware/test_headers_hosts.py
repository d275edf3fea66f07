"""Protection of a service without keys from pages of other sites."""

from collections.abc import Iterator

import httpx2
import pytest
from starlette.datastructures import Headers

from consilience.errors import StartupError, WrongHost, WrongOrigin
from service.middleware.headers import HostCheck
from service.settings import ServiceSettings, read_settings
from tests.service.api_keys import bearer, make_key
from tests.service.servers import Server, assert_problem, npy, rows, running_service, upload

OWN = (
    "localhost", "localhost:8000", "LOCALHOST:8000", "demo.localhost:8000", "127.0.0.1", "127.0.0.1:8000", "10.1.2.3:8000",
    "[::1]", "[::1]:8000", "[fe80::1]:80", "api", "api:8000", "build-7:8000", "",
)  # fmt: skip
FOREIGN = (
    "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example:8000", "evil.example.",
    "127.0.0.1.nip.io", "0x7f.1", "127.1", "user@evil.example", "localhost@evil.example:80", "evil.example#localhost",
    "evil.example/localhost", "[::1].evil.example", "scores.example.org.evil.example", "notscores.example.org",
)  # fmt: skip
NAMES = ("scores.example.org",)


@pytest.mark.parametrize("host", OWN)
def test_addresses_and_private_names_are_allowed(host: str) -> None:
    HostCheck().check_host(Headers({"host": host}))


@pytest.mark.parametrize("host", FOREIGN)
def test_other_host_names_are_refused(host: str) -> None:
    for doors in (HostCheck(), HostCheck(NAMES)):
        with pytest.raises(WrongHost) as caught:
            doors.check_host(Headers({"host": host}))
        assert caught.value.value == host
        assert "CONSILIENCE_ALLOWED_HOSTS" in str(caught.value)


@pytest.mark.parametrize("host", ["scores.example.org", "Scores.Example.ORG:8443", "scores.example.org."])
def test_host_names_that_the_operator_lists_are_allowed(host: str) -> None:
    HostCheck(NAMES).check_host(Headers({"host": host}))


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://127.0.0.1:9000",
        "http://localhost:8000",
        "file://",
        "http://[::1",
        "x",
    ],
)
def test_pages_of_another_site_cannot_change_data(origin: str) -> None:
    with pytest.raises(WrongOrigin):
        HostCheck(NAMES).check_origin(Headers({"host": "127.0.0.1:8000", "origin": origin}))
    with pytest.raises(WrongOrigin):
        HostCheck().check_origin(Headers({"host": "", "origin": origin}))


@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:8000", "https://scores.example.org", "https://scores.example.org:8443"]
)
def test_pages_of_the_service_can_change_data(origin: str) -> None:
    HostCheck(NAMES).check_origin(Headers({"host": "127.0.0.1:8000", "origin": origin}))
    HostCheck().check_origin(Headers({"host": "127.0.0.1:8000"}))


def test_a_service_without_keys_responds_only_to_its_own_names(client: httpx2.Client) -> None:
    for path in ("/v1/jobs", "/v1/info", "/nothing", f"/v1/jobs/job_{'0' * 32}/events"):
        answer = client.get(path, headers={"host": "evil.example:8000"})
        assert_problem(answer, 421, "wrong-host", value="evil.example:8000")
    for path in ("/livez", "/readyz"):  # probes ask by names of their own, and learn nothing
        assert client.get(path, headers={"host": "evil.example"}).status_code == 200
    assert client.get("/v1/info", headers={"host": "localhost"}).status_code == 200


def test_a_form_of_another_site_is_refused_before_its_body_is_read(server: Server, client: httpx2.Client) -> None:
    stored = upload(client, rows(12))
    before = server.contents()

    for origin in ("https://evil.example", "null", "http://localhost:3000"):
        files = {"file": ("x.npy", npy(rows(12, seed=3)))}
        answer = client.post("/v1/embeddings", files=files, headers={"origin": origin})
        assert_problem(answer, 403, "wrong-origin", value=origin)
        assert "www-authenticate" not in answer.headers
        assert_problem(client.delete(stored["links"]["self"], headers={"origin": origin}), 403, "wrong-origin")

    assert server.contents() == before
    assert client.delete(stored["links"]["self"], headers={"origin": server.url}).status_code == 204


@pytest.fixture(scope="module")
def guarded(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """Run a service with a key, and yield both."""
    folder = tmp_path_factory.mktemp("doors")
    token = make_key(folder, "ana")
    with running_service(folder, f"{redis_server}?db=12") as server:
        yield server, token


def test_requests_with_a_key_can_use_any_host_and_origin(guarded: tuple[Server, str]) -> None:
    server, token = guarded
    foreign = {"host": "scores.example.org", "origin": "https://tools.example.org"}

    answer = httpx2.post(server.url + "/v1/embeddings", content=npy(rows(12)), headers={**foreign, **bearer(token)})
    assert answer.status_code == 201
    assert_problem(httpx2.get(server.url + "/v1/info", headers=foreign), 401, "unauthenticated")


def test_hosts_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_ALLOWED_HOSTS", "Scores.Example.org., scores  10.0.0.1")
    assert read_settings().allowed_hosts == ("scores.example.org", "scores", "10.0.0.1")
    monkeypatch.setenv("CONSILIENCE_ALLOWED_HOSTS", "")
    assert read_settings().allowed_hosts == ServiceSettings().allowed_hosts == ()


@pytest.mark.parametrize(
    "value", ["*", "*.example.org", "https://example.org", "example.org:80", "a..b", ".org", "exämple"]
)
def test_an_invalid_host_name_ends_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CONSILIENCE_ALLOWED_HOSTS", value)
    with pytest.raises(StartupError, match="CONSILIENCE_ALLOWED_HOSTS="):
        read_settings()
