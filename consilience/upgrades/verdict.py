"""Re-embed, adapt or keep: the rule, and what it says in plain words."""

from collections.abc import Sequence
from typing import Literal

from consilience.contract.upgrades import Strategy, Thresholds, ValueWithInterval, Verdict

GroundTruth = Literal["relevance_judgments", "re_embedding"]


def decide(
    ways: Sequence[Strategy], improvement: ValueWithInterval | None, thresholds: Thresholds, level: float
) -> Verdict:
    """Decide from what the ways retain of full re-embedding.

    1. Qrels say that the new model finds less than the old one (the interval of the improvement lies below 0), or it
       finds nothing: keep the old model.
    2. New queries as they are retain `thresholds.keep`: keep the index.
    3. The best map retains `thresholds.adapt`: adapt.
    4. Else: re-embed.
    """
    ground_truth: GroundTruth = "re_embedding" if improvement is None else "relevance_judgments"
    told = _describe_improvement(improvement, level)
    keep = next((way for way in ways if way.kind == "keep"), None)
    best_map = _most_retained([way for way in ways if way.kind == "adapt"])
    if improvement is not None and (improvement.high < 0 or next(iter(ways)).retained is None):
        text = " ".join(["Keep the old model and its index.", *told])
        return Verdict(
            recommendation="keep",
            strategy="old",
            best=None,
            ground_truth=ground_truth,
            retained=None,
            threshold=0.0,
            conclusive=True,
            text=text,
        )
    if keep is not None and _reaches(keep, thresholds.keep):
        return _make_verdict("keep", keep, threshold=thresholds.keep, ground_truth=ground_truth, level=level, told=told)
    if best_map is not None and _reaches(best_map, thresholds.adapt):
        return _make_verdict(
            "adapt", best_map, threshold=thresholds.adapt, ground_truth=ground_truth, level=level, told=told
        )
    best = _most_retained([way for way in (keep, best_map) if way is not None])
    limit = thresholds.keep if best is keep else thresholds.adapt
    return _make_verdict("re_embed", best, threshold=limit, ground_truth=ground_truth, level=level, told=told)


def _most_retained(ways: Sequence[Strategy]) -> Strategy | None:
    """The way that retains most; of equal ones the one that was asked for first."""
    known = [way for way in ways if way.retained is not None]
    return max(known, key=lambda way: way.retained.value if way.retained else 0.0, default=None)


def _reaches(way: Strategy, threshold: float) -> bool:
    return way.retained is not None and way.retained.value >= threshold


def _make_verdict(
    word: Literal["keep", "adapt", "re_embed"],
    best: Strategy | None,
    *,
    threshold: float,
    ground_truth: GroundTruth,
    level: float,
    told: Sequence[str],
) -> Verdict:
    """The verdict with its sentences; `best` is the way on the old index that it is about."""
    retained = None if best is None else best.retained
    clear = retained is None or not retained.low < threshold <= retained.high
    sentences = [_recommendation(word, best)]
    if best is not None and retained is not None:
        sentences.append(_describe_retained(best, retained, threshold, ground_truth, level))
    if not clear:
        sentences.append("The interval reaches across that bar: more queries could change the verdict.")
    return Verdict(
        recommendation=word,
        strategy=best.name if best is not None and word != "re_embed" else "re_embed",
        best=None if best is None else best.name,
        ground_truth=ground_truth,
        retained=retained,
        threshold=threshold,
        conclusive=clear,
        text=" ".join([*sentences, *told]),
    )


def _recommendation(word: str, best: Strategy | None) -> str:
    if word == "keep":
        return "Keep the index as it is, and ask it with the new model's queries."
    if word == "adapt" and best is not None and best.map is not None:
        return f"Keep the index, and translate the new model's queries by a map ({best.map.kind}) before they ask it."
    if best is None:
        return "Re-embed the documents: the old index cannot be asked by the new model, and no map was tried."
    return "Re-embed the documents with the new model."


def _describe_retained(
    best: Strategy, retained: ValueWithInterval, threshold: float, ground_truth: GroundTruth, level: float
) -> str:
    way = "as they are" if best.kind == "keep" else f"through the best map tried, {best.name}"
    what = "of the relevant documents that" if ground_truth == "relevance_judgments" else "of the answers that"
    return (
        f"On the old index new queries, {way}, find {_percent(retained.value)} ({_percent(level)} interval "
        f"{_percent(retained.low)} to {_percent(retained.high)}) {what} full re-embedding finds; "
        f"the bar is {_percent(threshold)}."
    )


def _describe_improvement(improvement: ValueWithInterval | None, level: float) -> list[str]:
    """Whether the swap is worth it, where judgements can say."""
    if improvement is None:
        return []
    figures = f"({_percent(level)} interval {_points(improvement.low)} to {_points(improvement.high)})"
    if improvement.low > 0:
        word = f"finds {_points(improvement.value)} points more of the relevant documents than the old one {figures}"
    elif improvement.high < 0:
        word = f"finds {_points(-improvement.value)} points less of the relevant documents than the old one {figures}"
    else:
        word = f"is not shown to find more of the relevant documents: {_points(improvement.value)} points {figures}"
    return [f"By the judgements the new model {word}."]


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
