"""The rule from figures to re-embed, adapt or keep."""

import pytest

from consilience.contract.maps import MeanShare, RidgeMap
from consilience.contract.upgrades import Strategy, Thresholds, ValueWithInterval
from consilience.upgrades.verdict import decide

NOTHING_KNOWN = MeanShare(value=0.5, low=0.0, high=1.0)


def way(name: str, retained: float | None, width: float = 0.01) -> Strategy:
    span = None if retained is None else ValueWithInterval(value=retained, low=retained - width, high=retained + width)
    if name.startswith("adapt"):
        return Strategy(name=name, kind="adapt", map=RidgeMap(), recall=NOTHING_KNOWN, retained=span)
    return Strategy.model_validate({"name": name, "kind": name, "recall": NOTHING_KNOWN, "retained": span})


def ways(keep: float | None = None, **adapt: float) -> list[Strategy]:
    found = [way("re_embed", 1.0), way("old", 0.3)]
    found += [] if keep is None else [way("keep", keep)]
    return found + [way(f"adapt:{name}", value) for name, value in adapt.items()]


@pytest.mark.parametrize(
    ("found", "word", "chosen"),
    [
        (ways(0.96, ridge=0.99), "keep", "keep"),
        (ways(0.94, ridge=0.99), "adapt", "adapt:ridge"),
        (ways(0.94, ridge=0.91, mlp=0.93), "adapt", "adapt:mlp"),
        (ways(0.94, ridge=0.89), "re_embed", "re_embed"),
        (ways(None, ridge=0.91), "adapt", "adapt:ridge"),
        (ways(None), "re_embed", "re_embed"),
    ],
)
def test_the_least_work_that_reaches_its_bar_is_recommended(found: list[Strategy], word: str, chosen: str) -> None:
    verdict = decide(found, None, Thresholds(), 0.95)
    assert (verdict.recommendation, verdict.strategy, verdict.ground_truth) == (word, chosen, "re_embedding")


def test_the_figure_the_bar_and_the_interval_are_in_the_text() -> None:
    verdict = decide(ways(0.5, ridge=0.871), None, Thresholds(), 0.95)
    assert verdict.text == (
        "Re-embed the documents with the new model. On the old index new queries, through the best map tried, adapt:ridge, "
        "find 87.1 % (95 % interval 86.1 % to 88.1 %) of the answers that full re-embedding finds; the bar is 90 %."
    )
    assert (verdict.best, verdict.threshold, verdict.conclusive) == ("adapt:ridge", 0.9, True)


def test_an_interval_across_the_bar_is_said() -> None:
    verdict = decide(ways(0.5, ridge=0.905), None, Thresholds(), 0.95)
    assert (verdict.recommendation, verdict.conclusive) == ("adapt", False)
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
    verdict = decide(ways(0.97), ValueWithInterval(value=value, low=low, high=high), Thresholds(), 0.95)
    assert verdict.ground_truth == "relevance_judgments"
    assert words in verdict.text
    assert verdict.strategy == ("old" if high < 0 else "keep")


def test_a_new_model_that_finds_nothing_relevant_is_not_swapped_to() -> None:
    found = [way("re_embed", None), way("old", None), way("keep", None)]
    verdict = decide(found, ValueWithInterval(value=0.0, low=0.0, high=0.0), Thresholds(), 0.95)
    assert (verdict.recommendation, verdict.strategy) == ("keep", "old")
