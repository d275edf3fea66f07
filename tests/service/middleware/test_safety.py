"""What every answer says to a browser, and the page that needs nothing from elsewhere."""

import base64
import hashlib
import re
import socket
from html.parser import HTMLParser

import httpx2
import pytest

from service.app import create_app
from service.middleware.headers import HEADERS
from service.openapi.docs_page import STYLE, render_page
from service.settings import Settings
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
def test_every_answer_tells_a_browser_to_do_nothing_with_it(client: httpx2.Client, method: str, path: str) -> None:
    answer = client.request(method, path)

    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert HEADERS["Content-Security-Policy"] == NOTHING
    assert "server" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


def test_also_the_answer_to_what_is_no_http(server: Server) -> None:
    url = httpx2.URL(server.url)
    with socket.create_connection((url.host, url.port or 80), timeout=5) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        head = connection.makefile("rb").read().partition(b"\r\n\r\n")[0].decode().lower()

    assert "400 bad request" in head
    assert all(f"{name}: {value}".lower() in head for name, value in HEADERS.items())


async def test_also_the_answer_to_an_error_that_nobody_foresaw() -> None:
    app = create_app(Settings())  # without its lifespan there are no stores to look into

    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/v1/info")

    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_a_job_may_be_kept_by_its_client_alone_and_only_to_ask_whether_it_changed(client: httpx2.Client) -> None:
    side = {"vectors": rows(12).tolist()}
    job = client.post("/v1/alignments", json={"a": side, "b": side}).json()

    assert client.get(job["links"]["self"]).headers.get_list("cache-control") == ["private, no-cache"]


class Page(HTMLParser):
    """The tags of a page, each with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_of_the_contract_loads_nothing_and_runs_nothing(client: httpx2.Client) -> None:
    answer = client.get("/docs")
    page = Page(answer.text)

    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "form", "base"})
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "style", "srcset"}
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert all(link and link.startswith(("#", "/openapi.json")) for link in links)
    assert {link[1:] for link in links if link and link[0] == "#"} <= {attrs.get("id") for _, attrs in page.tags}


def test_its_policy_allows_its_own_style_and_nothing_else(client: httpx2.Client) -> None:
    answer = client.get("/docs")
    [policy] = answer.headers.get_list("content-security-policy")
    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert style == STYLE
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_every_operation_and_every_schema_is_on_the_page(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    anchors = {attributes.get("id") for _, attributes in Page(client.get("/docs").text).tags}

    for item in document["paths"].values():
        assert {operation["operationId"] for operation in item.values()} <= anchors
    assert document["components"]["schemas"].keys() <= anchors


def test_what_the_document_says_is_text_on_the_page_and_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    operation = {
        "operationId": evil,
        "summary": evil,
        "description": f"`{evil}`",
        "parameters": [
            {"name": evil, "in": "query", "required": False, "schema": {"default": evil}, "description": evil}
        ],
        "requestBody": {"content": {evil: {"examples": {"e": {"summary": evil, "value": evil}}}}},
        "responses": {evil: {"description": evil, "content": {evil: {"schema": {"$ref": evil}}}}},
    }
    document = {
        "info": {"title": evil, "version": evil, "description": evil},
        "paths": {evil: {"get": operation}},
        "components": {"schemas": {evil: {"title": evil}}},
    }

    assert "script" not in {tag for tag, _ in Page(render_page(document)).tags}


def test_a_405_names_every_method_of_the_path(client: httpx2.Client) -> None:
    stored = upload(client, rows(12))["links"]["self"]

    assert client.put("/v1/embeddings").headers["allow"] == "GET, POST"
    assert client.put(stored).headers["allow"] == "DELETE, GET"
    assert client.delete("/livez").headers["allow"] == "GET"
