"""The same in Markdown."""

import re

from consilience.upgrades.html import escape_markdown, to_markdown
from tests.reports.pages import EVIL, report


def test_names_are_text_in_one_line_whatever_they_hold() -> None:
    shown = escape_markdown(EVIL)
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert not re.search(r"(?<!\\)[`|<>\[\]#&]", shown)


def test_every_row_of_a_table_has_as_many_cells_as_its_heading() -> None:
    rows = [line for line in to_markdown(report()).splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", row)) - 1 for row in rows]
    assert set(cells) == {2, 4, 5}


def test_every_part_of_the_report_is_told() -> None:
    page = to_markdown(report("doc-1"))
    for words in ("**Verdict: adapt.** Keep the index.", "0.600", "1 of 2", "doc-1, b", "## Queries that changed most"):
        assert words in page
