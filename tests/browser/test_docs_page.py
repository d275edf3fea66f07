"""The documentation page in a real browser: Debian's chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, sync_playwright

from tests.serving import serve

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; on Debian: apt-get install chromium")

#: Records what the page's policy blocks.
RECORD_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
"""
FORM = "multipart/form-data"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve() as service:
        yield service.url


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx2.get(f"{url}/openapi.json").json()
    return answer


@pytest.fixture
def requested() -> list[str]:
    """The addresses that the page requests."""
    return []


@pytest.fixture
def failures() -> list[str]:
    """Errors of scripts and messages about what the policy blocks."""
    return []


@pytest.fixture
def unchecked_page(url: str, requested: list[str], failures: list[str]) -> Iterator[Page]:
    """The documentation page, complete."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda message: failures.append(message.text) if message.type == "error" else None)
        page.add_init_script(RECORD_VIOLATIONS)
        page.goto(f"{url}/docs")
        page.locator(".opblock").first.wait_for()
        yield page
        browser.close()


@pytest.fixture
def page(unchecked_page: Page, failures: list[str]) -> Iterator[Page]:
    """The same page; at the end of the test, the policy blocked nothing of it and no script failed."""
    yield unchecked_page
    assert unchecked_page.evaluate("window.violations") == []
    assert failures == []


def unfold(page: Page, tag: str, operation_id: str) -> Locator:
    operation = page.locator(f"#operations-{tag}-{operation_id}")
    operation.locator(".opblock-summary-control").click()
    operation.locator(".execute").wait_for()
    return operation


def choose_media_type(operation: Locator, media_type: str) -> None:
    operation.locator(".opblock-section-request-body select.content-type").first.select_option(media_type)


def execute(operation: Locator) -> int:
    """Send the request and return the status that the page shows."""
    operation.locator(".execute").click()
    status = operation.locator(".live-responses-table tbody .response-col_status")
    status.wait_for()
    return int(status.inner_text().split()[0])


def save_vectors(folder: Path, seed: int) -> Path:
    path = folder / f"{seed}.npy"
    np.save(path, np.random.default_rng(seed).normal(size=(24, 8)).astype(np.float32))
    return path


def test_the_page_shows_every_operation_under_its_tag(page: Page, document: dict[str, Any]) -> None:
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    shown = {
        tag: [
            text.strip()
            for text in page.locator(
                f".opblock-tag-section:has(> h3[data-tag={tag}]) .opblock-summary-description"
            ).all_inner_texts()
        ]
        for tag in [tag["name"] for tag in document["tags"]]
    }

    assert shown == {tag: [each["summary"] for each in operations if tag in each["tags"]] for tag in shown}
    assert sum(map(len, shown.values())) == len(operations)


def test_the_page_requests_nothing_from_another_site(page: Page, url: str, requested: list[str]) -> None:
    unfold(page, "alignments", "create_alignment")

    assert {urlsplit(address).netloc for address in requested if not address.startswith("data:")} == {
        urlsplit(url).netloc
    }


@pytest.mark.parametrize(
    ("tag", "operation_id"),
    [
        ("embeddings", "create_embedding"),
        ("datasets", "create_dataset"),
        ("alignments", "create_alignment"),
        ("studies", "create_study"),
        ("upgrades", "create_upgrade"),
        ("jobs", "list_jobs"),
        ("service", "get_info"),
    ],
)
def test_the_first_example_can_be_sent_from_the_page(page: Page, tag: str, operation_id: str) -> None:
    assert 200 <= execute(unfold(page, tag, operation_id)) < 300


def test_the_body_of_every_post_shows_its_schema_or_its_parts(page: Page, document: dict[str, Any]) -> None:
    for item in document["paths"].values():
        body = item.get("post", {}).get("requestBody")
        if body is None:
            continue
        operation = unfold(page, item["post"]["tags"][0], item["post"]["operationId"])
        operation.locator(".opblock-section-request-body .model-example .tablinks", has_text="Schema").click()
        assert operation.locator(".opblock-section-request-body .json-schema-2020-12-property").count() > 0
        if FORM in body["content"]:
            choose_media_type(operation, FORM)
            parts = body["content"][FORM]["schema"]["properties"]
            for part in parts:
                assert operation.locator(f"tr[data-property-name={part}]").count() == 1


def test_a_form_can_be_sent_with_its_files_alone(page: Page, tmp_path: Path) -> None:
    operation = unfold(page, "alignments", "create_alignment")
    choose_media_type(operation, FORM)
    files = operation.locator("input[type=file]")
    for place in range(2):
        files.nth(place).set_input_files(save_vectors(tmp_path, place))

    assert execute(operation) == 202


def test_a_file_can_be_uploaded_from_the_page(page: Page, tmp_path: Path) -> None:
    operation = unfold(page, "embeddings", "create_embedding")
    choose_media_type(operation, "application/x-npy")
    operation.locator("input[type=file]").set_input_files(save_vectors(tmp_path, 7))

    assert execute(operation) == 201


def test_an_inline_script_or_style_is_blocked(unchecked_page: Page) -> None:
    added = unchecked_page.evaluate("""async () => {
        for (const [kind, text] of [["script", "window.injected = true"], ["style", "body { color: red }"]]) {
            const element = document.createElement(kind);
            element.textContent = text;
            document.body.append(element);
        }
        await new Promise((resolve) => setTimeout(resolve));
        return [window.injected ?? false, window.violations];
    }""")

    assert added == [False, ["script-src-elem inline", "style-src-elem inline"]]
