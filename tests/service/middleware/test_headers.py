"""Security headers of responses, and files of the documentation page."""

import socket
from html.parser import HTMLParser

import httpx2
import pytest

from service.app import create_app
from service.middleware.headers import SECURITY_HEADERS
from service.settings import ServiceSettings
from tests.service.servers import Server, rows, upload

NOTHING = "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/livez"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/info"),
        ("GET", "/v1/jobs/unknown"),
        ("GET", "/nothing"),
        ("PUT", "/v1/jobs"),
        ("POST", "/v1/alignments"),
        ("POST", "/v1/embeddings"),
    ],
)
def test_every_response_has_security_headers(client: httpx2.Client, method: str, path: str) -> None:
    answer = client.request(method, path)

    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert SECURITY_HEADERS["Content-Security-Policy"] == NOTHING
    assert "server" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


def test_the_response_to_invalid_http_has_security_headers(server: Server) -> None:
    url = httpx2.URL(server.url)
    with socket.create_connection((url.host, url.port or 80), timeout=5) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        head = connection.makefile("rb").read().partition(b"\r\n\r\n")[0].decode().lower()

    assert "400 bad request" in head
    assert all(f"{name}: {value}".lower() in head for name, value in SECURITY_HEADERS.items())


async def test_the_response_to_an_unexpected_error_has_security_headers() -> None:
    app = create_app(ServiceSettings())  # without its lifespan there are no stores to look into

    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/v1/info")

    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_only_the_client_can_cache_a_job_and_must_revalidate_it(client: httpx2.Client) -> None:
    side = {"vectors": rows(12).tolist()}
    job = client.post("/v1/alignments", json={"a": side, "b": side}).json()

    assert client.get(job["links"]["self"]).headers.get_list("cache-control") == ["private, no-cache"]


class Page(HTMLParser):
    """Tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_docs_page_has_no_inline_script_or_style_and_loads_only_own_files(client: httpx2.Client) -> None:
    page = Page(client.get("/docs").text)
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]

    assert {tag for tag, _ in page.tags}.isdisjoint({"style", "iframe", "object", "form", "base"})
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"style", "srcset"}
    assert scripts
    assert all((attributes["src"] or "").startswith("/docs/static/") for attributes in scripts)
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "link"]
    assert all(link.startswith(("/docs/static/", "data:,")) for link in links)


def test_the_policy_of_the_docs_page_allows_only_files_of_the_service(client: httpx2.Client) -> None:
    [policy] = client.get("/docs").headers.get_list("content-security-policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))

    assert rules["default-src"] == "'none'"
    assert {rules[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert rules["img-src"] == "'self' data:"
    assert {rules[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}


def test_every_file_of_the_docs_page_is_served_and_checked_before_reuse(client: httpx2.Client) -> None:
    page = Page(client.get("/docs").text)
    files = [attributes.get("src") or attributes.get("href") or "" for tag, attributes in page.tags if tag != "a"]

    for path in [file for file in files if file.startswith("/docs/static/")]:
        answer = client.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304


@pytest.mark.parametrize("path", ["none.js", "..%2fgate.py", "../gate.py", ""])
def test_other_paths_below_the_docs_page_are_not_found(client: httpx2.Client, path: str) -> None:
    answer = client.get(f"/docs/static/{path}")

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_a_405_lists_all_methods_of_the_path(client: httpx2.Client) -> None:
    stored = upload(client, rows(12))["links"]["self"]

    assert client.put("/v1/embeddings").headers["allow"] == "GET, POST"
    assert client.put(stored).headers["allow"] == "DELETE, GET"
    assert client.delete("/livez").headers["allow"] == "GET"
