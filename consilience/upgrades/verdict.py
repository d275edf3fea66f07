"""Verdict of an upgrade report: keep, adapt or re-embed, and the sentences that give the reason."""

from collections.abc import Sequence
from typing import Literal

from consilience.contract.upgrades import Strategy, Thresholds, ValueWithInterval, Verdict

GroundTruth = Literal["relevance_judgments", "re_embedding"]
#: Names of the kinds of maps in sentences.
MAP_NAMES = {
    "procrustes": "Procrustes",
    "ridge": "ridge regression",
    "low_rank": "low-rank regression",
    "relative": "relative representations",
    "mlp": "an MLP",
}


def decide(
    strategies: Sequence[Strategy], improvement: ValueWithInterval | None, thresholds: Thresholds, level: float
) -> Verdict:
    """Decide from the share of the results of full re-embedding that each strategy retains.

    1. By the relevance judgments the new model retrieves less than the old one (the interval of the improvement lies below 0),
       or it retrieves nothing: keep the old model.
    2. Unmapped new queries retain at least `thresholds.keep`: keep the index.
    3. New queries through the best map retain at least `thresholds.adapt`: adapt.
    4. Otherwise: re-embed.
    """
    ground_truth: GroundTruth = "re_embedding" if improvement is None else "relevance_judgments"
    improved = _describe_improvement(improvement, level)
    keep = next((strategy for strategy in strategies if strategy.kind == "keep"), None)
    best_map = _most_retained([strategy for strategy in strategies if strategy.kind == "adapt"])
    if improvement is not None and (improvement.high < 0 or next(iter(strategies)).retained is None):
        text = " ".join(["Keep the old model and its index.", *improved])
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
        return _make_verdict(
            "keep", keep, threshold=thresholds.keep, ground_truth=ground_truth, level=level, improved=improved
        )
    if best_map is not None and _reaches(best_map, thresholds.adapt):
        return _make_verdict(
            "adapt", best_map, threshold=thresholds.adapt, ground_truth=ground_truth, level=level, improved=improved
        )
    best = _most_retained([strategy for strategy in (keep, best_map) if strategy is not None])
    limit = thresholds.keep if best is keep else thresholds.adapt
    return _make_verdict("re_embed", best, threshold=limit, ground_truth=ground_truth, level=level, improved=improved)


def _most_retained(strategies: Sequence[Strategy]) -> Strategy | None:
    """Return the strategy that retains most; of equal ones the one that comes first."""
    known = [strategy for strategy in strategies if strategy.retained is not None]
    return max(known, key=lambda strategy: strategy.retained.value if strategy.retained else 0.0, default=None)


def _reaches(strategy: Strategy, threshold: float) -> bool:
    return strategy.retained is not None and strategy.retained.value >= threshold


def _make_verdict(
    recommendation: Literal["keep", "adapt", "re_embed"],
    best: Strategy | None,
    *,
    threshold: float,
    ground_truth: GroundTruth,
    level: float,
    improved: Sequence[str],
) -> Verdict:
    """Make the verdict with its sentences; `best` is the best strategy on the old index."""
    retained = None if best is None else best.retained
    conclusive = retained is None or not retained.low < threshold <= retained.high
    sentences = [_describe_recommendation(recommendation, best)]
    if best is not None and retained is not None:
        sentences.append(_describe_retained(best, retained, threshold, ground_truth, level))
    if not conclusive:
        sentences.append("The interval includes the threshold, so more queries could change the verdict.")
    return Verdict(
        recommendation=recommendation,
        strategy=best.name if best is not None and recommendation != "re_embed" else "re_embed",
        best=None if best is None else best.name,
        ground_truth=ground_truth,
        retained=retained,
        threshold=threshold,
        conclusive=conclusive,
        text=" ".join([*sentences, *improved]),
    )


def _describe_recommendation(recommendation: str, best: Strategy | None) -> str:
    if recommendation == "keep":
        return "Keep the index as it is, and search it with the new model's queries."
    if recommendation == "adapt" and best is not None and best.map is not None:
        return f"Keep the index, and map the new model's queries ({best.map.kind}) before each search."
    if best is None:
        return "Re-embed the documents: the new model's vectors do not have the old index's dimension, and no map was tried."
    return "Re-embed the documents with the new model."


def _describe_retained(
    best: Strategy, retained: ValueWithInterval, threshold: float, ground_truth: GroundTruth, level: float
) -> str:
    queries = "new queries"
    if best.kind == "adapt":
        queries += f" mapped with {MAP_NAMES[best.map.kind] if best.map else best.name}"
    what = "the relevant documents that" if ground_truth == "relevance_judgments" else "what"
    return (
        f"On the existing index, {queries} retrieve {_percent(retained.value)} % ({100 * level:g} % interval "
        f"{_percent(retained.low)} to {_percent(retained.high)}) of {what} full re-embedding retrieves; "
        f"the threshold is {100 * threshold:g} %."
    )


def _describe_improvement(improvement: ValueWithInterval | None, level: float) -> list[str]:
    """Say by how much the new model is better, if there are relevance judgments."""
    if improvement is None:
        return []
    points, low, high = (_percent(share) for share in (improvement.value, improvement.low, improvement.high))
    interval = f"({100 * level:g} % interval {low} to {high})"
    if improvement.low > 0:
        change = f"retrieves {points} percentage points more of the relevant documents than the old model"
    elif improvement.high < 0:
        points = _percent(-improvement.value)
        change = f"retrieves {points} percentage points fewer of the relevant documents than the old model"
    else:
        change = f"does not retrieve significantly more of the relevant documents: {points} percentage points"
    return [f"By the relevance judgments, the new model {change} {interval}."]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
