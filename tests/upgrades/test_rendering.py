"""Upgrade reports as an HTML page, which is self-contained and shows names as text, and as Markdown."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from consilience.upgrades.rendering import POLICY, escape_markdown, to_html, to_markdown
from tests.upgrades.example_report import HOSTILE_NAME, example_report


class Reader(HTMLParser):
    """Collect tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_html_shows_every_name_as_text() -> None:
    reader = read(to_html(example_report()))
    assert any(HOSTILE_NAME in text for text in reader.text)
    assert not {"script", "a", "img", "iframe", "link", "object", "form"} & set(reader.tags)


def test_the_page_loads_and_runs_nothing() -> None:
    page = to_html(example_report("plain"))
    assert not {"style", "src", "href", "onclick", "onload"} & set(read(page).attributes)
    assert "url(" not in page
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\s\"<]+", page)) == {"http://www.w3.org/2000/svg"}


def test_the_page_allows_only_its_own_style() -> None:
    page = to_html(example_report())
    found = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert found is not None
    digest = b64encode(sha256(found[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in POLICY
    assert page.count("<style>") == page.count("Content-Security-Policy") == 1


def test_the_chart_is_valid_svg_with_a_bar_and_an_interval_for_each_strategy() -> None:
    found = re.search(r"<svg.*</svg>", to_html(example_report()), re.DOTALL)
    assert found is not None
    chart = ET.fromstring(found[0])  # noqa: S314 - trusted content
    kinds = [part.get("class") for part in chart.iter()]
    assert (kinds.count("bar"), kinds.count("interval"), kinds.count("threshold")) == (2, 2, 1)


def test_html_contains_every_part_of_the_report() -> None:
    page = "".join(read(to_html(example_report())).text)
    for words in (
        "Keep the index.",
        "0.600 [0.500, 0.700]",
        "1 of 2",
        "200 of 300 queries",
        "Queries whose results change most",
    ):
        assert words in page


def test_markdown_shows_every_name_as_text_in_one_line() -> None:
    shown = escape_markdown(HOSTILE_NAME)
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert not re.search(r"(?<!\\)[`|<>\[\]#&]", shown)


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_heading() -> None:
    rows = [line for line in to_markdown(example_report()).splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", row)) - 1 for row in rows]
    assert set(cells) == {2, 4, 5}


def test_markdown_contains_every_part_of_the_report() -> None:
    page = to_markdown(example_report("doc-1"))
    for words in (
        "**Verdict: adapt.** Keep the index.",
        "0.600",
        "1 of 2",
        "doc-1, b",
        "## Queries whose results change most",
    ):
        assert words in page
