"""The rule from figures to re-embed, adapt or keep."""

import pytest

from consilience.contract.maps import MeanShare, Ridge
from consilience.contract.upgrades import Span, Thresholds, Way
from consilience.upgrades.verdict import decide

NOTHING_KNOWN = MeanShare(value=0.5, low=0.0, high=1.0)


def way(name: str, retained: float | None, width: float = 0.01) -> Way:
    span = None if retained is None else Span(value=retained, low=retained - width, high=retained + width)
    if name.startswith("adapt"):
        return Way(name=name, kind="adapt", map=Ridge(), recall=NOTHING_KNOWN, retained=span)
    return Way.model_validate({"name": name, "kind": name, "recall": NOTHING_KNOWN, "retained": span})


def ways(keep: float | None = None, **adapt: float) -> list[Way]:
    found = [way("re_embed", 1.0), way("old", 0.3)]
    found += [] if keep is None else [way("keep", keep)]
    return found + [way(f"adapt:{name}", value) for name, value in adapt.items()]


@pytest.mark.parametrize(
    ("found", "word", "chosen"),
    [
        (ways(0.96, ridge=0.99), "keep", "keep"),
        (ways(0.94, ridge=0.99), "adapt", "adapt:ridge"),
        (ways(0.94, ridge=0.91, mlp=0.93), "adapt", "adapt:mlp"),
        (ways(0.94, ridge=0.89), "re-embed", "re_embed"),
        (ways(None, ridge=0.91), "adapt", "adapt:ridge"),
        (ways(None), "re-embed", "re_embed"),
    ],
)
def test_the_least_work_that_reaches_its_bar_is_recommended(found: list[Way], word: str, chosen: str) -> None:
    verdict = decide(found, None, Thresholds(), 0.95)
    assert (verdict.word, verdict.way, verdict.truth) == (word, chosen, "re-embedding")


def test_the_figure_the_bar_and_the_interval_are_in_the_text() -> None:
    verdict = decide(ways(0.5, ridge=0.871), None, Thresholds(), 0.95)
    assert verdict.text == (
        "Re-embed the documents with the new model. On the old index new queries, through the best map tried, adapt:ridge, "
        "find 87.1 % (95 % interval 86.1 % to 88.1 %) of the answers that full re-embedding finds; the bar is 90 %."
    )
    assert (verdict.best, verdict.threshold, verdict.clear) == ("adapt:ridge", 0.9, True)


def test_an_interval_across_the_bar_is_said() -> None:
    verdict = decide(ways(0.5, ridge=0.905), None, Thresholds(), 0.95)
    assert (verdict.word, verdict.clear) == ("adapt", False)
    assert "more queries could change the verdict" in verdict.text


@pytest.mark.parametrize(
    ("improvement", "words"),
    [
        ((0.1, 0.05, 0.15), "finds 10.0 points more"),
        ((0.01, -0.02, 0.04), "is not shown to find more"),
        ((-0.1, -0.15, -0.05), "finds 10.0 points less"),
    ],
)
def test_judgements_say_whether_the_swap_is_worth_it(improvement: tuple[float, float, float], words: str) -> None:
    value, low, high = improvement
    verdict = decide(ways(0.97), Span(value=value, low=low, high=high), Thresholds(), 0.95)
    assert verdict.truth == "judgements"
    assert words in verdict.text
    assert verdict.way == ("old" if high < 0 else "keep")


def test_a_new_model_that_finds_nothing_relevant_is_not_swapped_to() -> None:
    found = [way("re_embed", None), way("old", None), way("keep", None)]
    verdict = decide(found, Span(value=0.0, low=0.0, high=0.0), Thresholds(), 0.95)
    assert (verdict.word, verdict.way) == ("keep", "old")
