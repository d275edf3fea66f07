"""`consilience upgrade`, in this process."""

import json
from pathlib import Path

import numpy as np
import pytest

from consilience.contract.upgrades import UpgradeReport
from tests.cli.conftest import Command, save

Pair = tuple[Path, Path]


@pytest.fixture
def queries(tmp_path: Path, pair: Pair) -> Pair:
    """Queries that are the first 20 documents with a little noise, by both models."""
    noise = 0.01 * np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)
    old, new = (save(tmp_path / f"q_{side.name}", np.load(side)[:20] + noise) for side in pair)
    return old, new


@pytest.fixture
def qrels(tmp_path: Path) -> Path:
    path = tmp_path / "qrels.json"
    path.write_text(json.dumps({str(row): [row] for row in range(20)}))
    return path


def test_the_report_contains_a_recommendation_and_warnings(consilience: Command, pair: Pair) -> None:
    ran = consilience("upgrade", *pair, "--k", 3)
    assert ran.status == 0
    assert "adapt:procrustes" in ran.out
    assert "neighbour agreement@3" in ran.out
    assert "held-out documents serve as queries" in " ".join(ran.err.split())


def test_queries_and_relevance_judgments_are_read(consilience: Command, pair: Pair, queries: Pair, qrels: Path) -> None:
    words = ("--queries-old", queries[0], "--queries-new", queries[1], "--qrels", qrels)
    ran = consilience("upgrade", *pair, *words, "--map", "ridge:penalty=0.1", "--map", "none", "--json")
    assert ran.status == 0
    report = UpgradeReport.model_validate_json(ran.out)
    assert (report.queries.source, report.queries.used) == ("queries", 20)
    assert [each.name for each in report.strategies] == ["re_embed", "old", "keep", "adapt:ridge"]
    assert report.improvement is not None


@pytest.mark.parametrize(
    ("thresholds", "status"),
    [
        (("agreement=0.3", "recall=0.3"), 0),
        (("recall:adapt:procrustes=0.3", "retained:keep=0"), 0),
        (("agreement=0.3", "recall=0.9999"), 1),
        (("improvement=0",), 1),  # there are no relevance judgments
        (("relevant_recall=0",), 1),
        (("recall:adapt:mlp=0.3",), 2),
        (("speed=1",), 2),
        (("agreement:keep=1",), 2),
        (("agreement",), 2),
        (("agreement=nan",), 2),
    ],
)
def test_thresholds_decide_the_exit_status(
    consilience: Command, pair: Pair, thresholds: tuple[str, ...], status: int
) -> None:
    words = [word for threshold in thresholds for word in ("--min", threshold)]
    ran = consilience("upgrade", *pair, "--k", 3, "--map", "procrustes", *words)
    assert ran.status == status
    assert (ran.out.count("passed") + ran.out.count("failed") == len(thresholds)) == (status < 2)


def test_a_threshold_is_compared_with_the_exact_value_of_its_metric(
    consilience: Command, tmp_path: Path, qrels: Path
) -> None:
    # Given a new model that retrieves more than the old one
    rng = np.random.default_rng(3)
    true = rng.standard_normal((120, 8)).astype(np.float32)
    sides = {"old": 1.2, "new": 0.1}
    pair = [save(tmp_path / f"{name}.npy", true + noise * _draw(rng, 120)) for name, noise in sides.items()]
    queries = [save(tmp_path / f"q_{name}.npy", true[:20] + noise * _draw(rng, 20)) for name, noise in sides.items()]
    words = ("--queries-old", queries[0], "--queries-new", queries[1], "--qrels", qrels)
    words += ("--map", "ridge", "--k", 3)
    report = UpgradeReport.model_validate_json(consilience("upgrade", *pair, *words, "--json").out)
    strategies = {each.name: each for each in report.strategies}
    assert report.improvement is not None
    results = {"agreement": report.agreement.shared, "improvement": report.improvement}
    for name in ("recall", "relevant_recall", "retained", "gain"):
        results |= {f"{name}:{each}": getattr(strategies[each], name) for each in ("keep", "adapt:ridge")}
        results[name] = getattr(strategies[report.verdict.best or ""], name)
    values = {name: result.value for name, result in results.items() if result is not None}
    assert {name.split(":")[0] for name in values} == {
        *("agreement", "improvement", "recall", "relevant_recall", "retained", "gain")
    }
    assert len(set(values.values())) >= 6
    at, above = (
        [word for name, value in values.items() for word in ("--min", f"{name}={value + extra!r}")]
        for extra in (0.0, 1e-9)
    )
    passed, failed = (consilience("upgrade", *pair, *words, *minimums) for minimums in (at, above))
    assert (passed.status, passed.out.count("passed")) == (0, len(values))
    assert (failed.status, failed.out.count("failed")) == (1, len(values))


def _draw(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal((n, 8)).astype(np.float32)


@pytest.mark.parametrize(("suffix", "start"), [("json", "{"), ("md", "# Upgrade report"), ("html", "<!doctype html>")])
def test_the_suffix_of_the_output_file_chooses_its_format(
    consilience: Command, pair: Pair, tmp_path: Path, suffix: str, start: str
) -> None:
    out = tmp_path / "folder" / f"report.{suffix}"
    ran = consilience("upgrade", *pair, "--k", 3, "--map", "procrustes", "--out", out)
    assert ran.status == 0
    assert out.read_text().startswith(start)


@pytest.mark.parametrize(
    "words",
    [
        ("--out", "report.pdf"),
        ("--queries-old", "q.npy"),
        ("--map", "spline"),
        ("--map", "low_rank:rank"),
        ("--map", "low_rank:rank=0"),
        ("--k", "64"),
        ("--keep", "1.5"),
        ("--layers", "9"),
        ("--max-queries", "1"),
    ],
)
def test_an_invalid_value_is_bad_usage(consilience: Command, pair: Pair, words: tuple[str, ...]) -> None:
    ran = consilience("upgrade", *pair, *words)
    assert ran.status == 2
    assert ran.err.startswith("error: ")


def test_the_layer_of_each_model_can_be_named(consilience: Command, tmp_path: Path) -> None:
    layers = save(tmp_path / "model.npy", np.random.default_rng(0).standard_normal((60, 3, 8)).astype(np.float32))
    ran = consilience("upgrade", layers, layers, "--layers", "old=1", "--layers", "new=2", "--map", "none", "--json")
    report = UpgradeReport.model_validate_json(ran.out)
    assert (report.old.layer, report.new.layer) == ("1", "2")
