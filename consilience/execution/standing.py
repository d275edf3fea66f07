"""Where a model stands among the members of a reference set: arithmetic of scores that are there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isclose

from consilience.contract.reference_scores import MemberMean, Standing
from consilience.contract.scores import Reason, Score

#: Means that are nearer to each other than this share of them differ by rounding alone.
TIE = 1e-12

#: The value of (member, other member), None where it is undefined.
Mutual = Mapping[tuple[int, int], float | None]


@dataclass(frozen=True)
class Names:
    """What the members are called, in their order."""

    ids: Sequence[str]
    names: Sequence[str]


def find_standing(
    scores: Sequence[Score], mutual: Mapping[tuple[int, int], float | None], members: Names, own: int | None
) -> Standing:
    """Rank the model by its mean score among the members by theirs.

    Parameters
    ----------
    scores : the model's score against each member, under one metric
    mutual : the value of each member against each other one, under the same metric
    members : Names
    own : the member that holds the model's own content, None where none does; it is left out of the model's mean and of those
        that it is ranked among, so that a member stands where its own mean places it
    """
    count = len(scores)
    others = [j for j in range(count) if j != own]
    value, against = _mean([scores[j].value for j in others])
    means = [_mean([mutual[j, i] for i in range(count) if i != j])[0] for j in range(count)]
    ranked = [mean for j in others if (mean := means[j]) is not None]
    first = scores[0]
    sign = 1.0 if first.direction == "similarity" else -1.0
    ties = better = None
    if value is not None and ranked:
        ties = sum(_equal(mean, value) for mean in ranked)
        better = sum(sign * mean > sign * value for mean in ranked if not _equal(mean, value))
    return Standing(
        metric=first.metric,
        options=first.options,
        definition=first.definition,
        direction=first.direction,
        value=value,
        against=against,
        rank=None if better is None else better + 1,
        of=len(ranked) + 1,
        ties=ties or 0,
        ahead_of=None if better is None or ties is None else (len(ranked) - better - ties / 2) / len(ranked),
        reason=_find_reason(value, ranked, count),
        members=tuple(
            MemberMean(id=own_id, name=name, value=mean)
            for own_id, name, mean in zip(members.ids, members.names, means, strict=True)
        ),
    )


def unranked(standing: Standing, reason: Reason) -> Standing:
    """The same means without a rank."""
    return standing.model_copy(update={"rank": None, "ties": 0, "ahead_of": None, "reason": reason})


def _mean(values: Sequence[float | None]) -> tuple[float | None, int]:
    """The mean of those that are defined, and how many these are; the sum is exact, whatever the order."""
    defined = [value for value in values if value is not None]
    return (fsum(defined) / len(defined), len(defined)) if defined else (None, 0)


def _equal(first: float, second: float) -> bool:
    return isclose(first, second, rel_tol=TIE, abs_tol=TIE)


def _find_reason(value: float | None, ranked: Sequence[float], members: int) -> Reason | None:
    if value is None:
        return Reason(code="undefined-scores", detail="No score of the model against another member is defined.")
    if members == 1:
        return Reason(code="one-member", detail="The one member has no other to be scored against.")
    if not ranked:
        return Reason(code="no-other-means", detail="No other member has a defined score against another one.")
    return None
