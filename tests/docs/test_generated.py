"""Pages that a program writes are what it would write today."""

import json
from pathlib import Path

from benchmarks import evidence_page
from consilience.contract.metrics import METRICS
from docs import generate

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_metrics_is_that_of_the_contract() -> None:
    assert generate.PAGE.read_text() == generate.render(), "run `make docs`"


def test_the_page_of_evidence_is_that_of_its_figures() -> None:
    figures = json.loads((DOCS / "evidence.json").read_text())
    assert (DOCS / "evidence.md").read_text() == evidence_page.render(figures)


def test_the_evidence_is_about_every_metric() -> None:
    figures = json.loads((DOCS / "evidence.json").read_text())
    for kind in ("level", "coverage"):
        assert {row["metric"] for row in figures[kind] if "missing" not in row} == METRICS.keys()
