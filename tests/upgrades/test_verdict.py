"""The rule from results to keep, adapt or re-embed, and its sentences."""

import pytest

from consilience.contract.maps import MeanShare, RidgeMap
from consilience.contract.upgrades import Strategy, Thresholds, ValueWithInterval
from consilience.upgrades.verdict import decide

ANY_RECALL = MeanShare(value=0.5, low=0.0, high=1.0)


def strategy(name: str, retained: float | None, width: float = 0.01) -> Strategy:
    span = None if retained is None else ValueWithInterval(value=retained, low=retained - width, high=retained + width)
    if name.startswith("adapt"):
        return Strategy(name=name, kind="adapt", map=RidgeMap(), recall=ANY_RECALL, retained=span)
    return Strategy.model_validate({"name": name, "kind": name, "recall": ANY_RECALL, "retained": span})


def strategies(keep: float | None = None, **adapt: float) -> list[Strategy]:
    found = [strategy("re_embed", 1.0), strategy("old", 0.3)]
    found += [] if keep is None else [strategy("keep", keep)]
    return found + [strategy(f"adapt:{name}", value) for name, value in adapt.items()]


@pytest.mark.parametrize(
    ("found", "word", "chosen"),
    [
        (strategies(0.96, ridge=0.99), "keep", "keep"),
        (strategies(0.94, ridge=0.99), "adapt", "adapt:ridge"),
        (strategies(0.94, ridge=0.91, mlp=0.93), "adapt", "adapt:mlp"),
        (strategies(0.94, ridge=0.89), "re_embed", "re_embed"),
        (strategies(None, ridge=0.91), "adapt", "adapt:ridge"),
        (strategies(None), "re_embed", "re_embed"),
    ],
)
def test_the_least_work_that_reaches_its_threshold_is_recommended(
    found: list[Strategy], word: str, chosen: str
) -> None:
    verdict = decide(found, None, Thresholds(), 0.95)
    assert (verdict.recommendation, verdict.strategy, verdict.ground_truth) == (word, chosen, "re_embedding")


def test_the_text_has_the_share_the_interval_and_the_threshold() -> None:
    verdict = decide(strategies(0.5, ridge=0.871), None, Thresholds(), 0.95)
    assert verdict.text == (
        "Re-embed the documents with the new model. On the existing index, new queries mapped with ridge regression retrieve "
        "87.1 % (95 % interval 86.1 to 88.1) of what full re-embedding retrieves; the threshold is 90 %."
    )
    assert (verdict.best, verdict.threshold, verdict.conclusive) == ("adapt:ridge", 0.9, True)


def test_an_interval_that_includes_the_threshold_is_mentioned() -> None:
    verdict = decide(strategies(0.5, ridge=0.905), None, Thresholds(), 0.95)
    assert (verdict.recommendation, verdict.conclusive) == ("adapt", False)
    assert "more queries could change the verdict" in verdict.text


@pytest.mark.parametrize(
    ("improvement", "words"),
    [
        (
            (0.1, 0.05, 0.15),
            "retrieves 10.0 percentage points more of the relevant documents than the old model (95 % interval 5.0 to 15.0)",
        ),
        (
            (0.01, -0.02, 0.04),
            "does not retrieve significantly more of the relevant documents: 1.0 percentage points (95 % interval -2.0 to 4.0)",
        ),
        (
            (-0.1, -0.15, -0.05),
            "retrieves 10.0 percentage points fewer of the relevant documents than the old model (95 % interval -15.0 to -5.0)",
        ),
    ],
)
def test_judgments_show_whether_the_new_model_is_better(improvement: tuple[float, float, float], words: str) -> None:
    value, low, high = improvement
    verdict = decide(strategies(0.97), ValueWithInterval(value=value, low=low, high=high), Thresholds(), 0.95)
    assert verdict.ground_truth == "relevance_judgments"
    assert words in verdict.text
    assert verdict.strategy == ("old" if high < 0 else "keep")


def test_a_new_model_that_retrieves_nothing_relevant_is_not_recommended() -> None:
    found = [strategy("re_embed", None), strategy("old", None), strategy("keep", None)]
    verdict = decide(found, ValueWithInterval(value=0.0, low=0.0, high=0.0), Thresholds(), 0.95)
    assert (verdict.recommendation, verdict.strategy) == ("keep", "old")
