"""Tables in a terminal of 80 columns."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console, RenderableType

from consilience.cli.check import check_scores, parse_score_threshold, score_check_table
from consilience.cli.output import format_number, format_p_value, job_table, metric_label, metric_table, score_table
from consilience.contract.jobs import Job
from consilience.contract.metrics import catalogue
from consilience.contract.scores import NullDistribution
from examples.heat import heat_map
from tests.cli.documents import document, score, undefined
from tests.client.documents import job

LAYERS = tuple(f"encoder.layers.{i}.output" for i in range(14))


def render(what: RenderableType) -> str:
    console = Console(width=80, file=io.StringIO(), no_color=True)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_score_is_shown_with_chance_level_p_value_interval_and_layers() -> None:
    text = render(score_table(document(score())))
    for part in ("mutual_knn k=10", "0.2107", "0.0196", "< 1e-12", "[0.190, 0.235]", "6 / 6", "docs and code", "512"):
        assert part in text


def estimated(**fields: object) -> dict[str, object]:
    points = [{"n": 10**power, "value": 0.6 / power, "low": 0.5 / power, "high": 0.7 / power} for power in range(3, 9)]
    points[0] |= {"low": 0.2, "high": 0.2}
    return score(estimator="estimated", queries=128, gallery_curve=points, **fields)


def test_an_estimate_is_shown_with_its_half_width_and_number_of_queries() -> None:
    text = render(score_table(document(estimated())))
    for part in ("0.2107 ±0.0224", "512 items, 128 queries"):
        assert part in text


def test_a_gallery_curve_has_a_line_with_a_bar_for_each_gallery() -> None:
    lines = render(score_table(document(estimated()))).splitlines()
    bars = [(line, line.count("━")) for line in lines if "━" in line]
    assert [count for _, count in bars] == [30, 23, 18, 15, 13, 11]
    assert bars[0][0].split()[:3] == ["1000", "0.2000", "-"]
    assert "[0.125, 0.175]" in bars[1][0]
    assert any("mutual_knn k=10 by gallery size" in line for line in lines)


def test_an_undefined_score_is_shown_with_its_reason() -> None:
    text = render(score_table(document(undefined())))
    assert "undefined" in text
    assert "Every row of a is the same." in text


@pytest.mark.parametrize(
    "draw",
    [
        lambda: score_table(document(score(layer_a=LAYERS[0], layer_b=LAYERS[13]), score(metric="cka", options={
            "kernel": "linear", "debiased": False, "definition": "prh"}))),
        lambda: heat_map(document(score(grid=[[0.1] * 14] * 14), layers=LAYERS).scores[0], *sides(LAYERS)),
        lambda: score_table(document(estimated(layer_a=LAYERS[0], layer_b=LAYERS[13]))),
        lambda: metric_table(catalogue()),
        lambda: job_table([Job.model_validate(job())]),
        lambda: score_check_table(check_scores(document(score()).scores, [parse_score_threshold("mutual_knn=0.3")])),
    ],
)  # fmt: skip
def test_every_table_fits_into_80_columns_without_cut_values(draw: Callable[[], RenderableType]) -> None:
    text = render(draw())
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def sides(layers: tuple[str, ...]) -> tuple[object, object]:
    found = document(score(), layers=layers)
    return found.a, found.b


@pytest.mark.parametrize(
    ("p", "bound", "text"),
    [
        (1e-12, True, "< 1e-12"),
        (4.9e-11, True, "<= 4.9e-11"),
        (0.00498, False, "0.005"),
        (0.31, False, "0.31"),
        (1.0, True, "<= 1"),
        (None, False, "-"),
    ],
)
def test_a_p_value_that_is_a_bound_is_shown_as_a_bound(p: float | None, bound: bool, text: str) -> None:
    assert format_p_value(NullDistribution(method="analytic", layer_pairs=1, p_value=p, p_is_bound=bound)) == text


def test_a_label_contains_k_and_the_options_that_differ_from_the_defaults() -> None:
    assert metric_label("mutual_knn", {"k": 10}) == "mutual_knn k=10"
    assert metric_label("cka", {"kernel": "linear", "debiased": True, "definition": "standard"}) == "cka"
    assert metric_label("cka", {"kernel": "linear", "debiased": False}) == "cka debiased=false"
    assert metric_label("of_a_newer_service", {"k": 3}) == "of_a_newer_service k=3"


def test_zero_has_no_sign() -> None:
    assert format_number(-0.00001) == "0.0000"
