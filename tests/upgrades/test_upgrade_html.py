"""The page: it needs nothing else, runs nothing, and shows names as text."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from consilience.upgrades.html import POLICY, to_html
from tests.reports.pages import EVIL, report


class Reader(HTMLParser):
    """Collects tags, attributes and text."""

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


def test_names_are_text_whatever_they_hold() -> None:
    reader = read(to_html(report()))
    assert any(EVIL in text for text in reader.text)
    assert not {"script", "a", "img", "iframe", "link", "object", "form"} & set(reader.tags)


def test_nothing_is_loaded_and_nothing_runs() -> None:
    page = to_html(report("plain"))
    assert not {"style", "src", "href", "onclick", "onload"} & set(read(page).attributes)
    assert "url(" not in page
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\s\"<]+", page)) == {"http://www.w3.org/2000/svg"}


def test_the_page_allows_its_own_style_and_nothing_else() -> None:
    page = to_html(report())
    found = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert found is not None
    digest = b64encode(sha256(found[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in POLICY
    assert page.count("<style>") == page.count("Content-Security-Policy") == 1


def test_the_chart_is_sound_svg_with_a_bar_and_an_interval_for_each_way() -> None:
    found = re.search(r"<svg.*</svg>", to_html(report()), re.DOTALL)
    assert found is not None
    chart = ET.fromstring(found[0])  # noqa: S314 - our own words
    kinds = [part.get("class") for part in chart.iter()]
    assert (kinds.count("bar"), kinds.count("interval"), kinds.count("threshold")) == (2, 2, 1)


def test_every_part_of_the_report_is_told() -> None:
    page = "".join(read(to_html(report())).text)
    for words in (
        "Keep the index.",
        "0.600 [0.500, 0.700]",
        "1 of 2",
        "200 of 300 queries",
        "Queries that changed most",
    ):
        assert words in page
