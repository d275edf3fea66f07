"""The maps of a report: from the new model's space to the old one's."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from consilience.contract.maps import Fitted, MapChoice
from consilience.measures.comparison import Report
from consilience.measures.map_fitting import Ground, fit_map, sum_up
from consilience.numerics.maps import Transform
from consilience.numerics.parts import Parts

#: What was asked for and what the fit found beside the weights, by the ways' names.
Fits = dict[str, tuple[MapChoice, Fitted]]


@dataclass(frozen=True)
class Maps:
    """Fitted maps by their ways' names.

    Attributes
    ----------
    transforms : from the new space to the old one
    fits : what was asked for, and what the fit found beside the weights
    """

    transforms: dict[str, Transform] = field(default_factory=dict)
    fits: Fits = field(default_factory=dict)


def fit_maps(choices: Sequence[MapChoice], ground: Ground, report: Report, parts: Parts) -> Maps:
    """Fit every map on one pass over the training documents.

    Raises
    ------
    InvalidRequest
        Training diverged.
    """
    maps = Maps()
    if not choices:
        return maps
    sums = sum_up(ground, report, parts)
    for name, choice in zip(name_maps(choices), choices, strict=True):
        maps.transforms[name], fitted = fit_map(choice, ground, sums, report)
        maps.fits[name] = choice, fitted
    return maps


def name_maps(choices: Sequence[MapChoice]) -> list[str]:
    """`adapt:` and the map's kind; with a number where a kind comes again.

    Examples
    --------
    >>> from consilience.contract.maps import LowRank, Procrustes
    >>> name_maps([Procrustes(), LowRank(rank=8), LowRank(rank=64)])
    ['adapt:procrustes', 'adapt:low_rank', 'adapt:low_rank:2']
    """
    kinds = [choice.kind for choice in choices]
    counts = [kinds[:place].count(kind) + 1 for place, kind in enumerate(kinds)]
    return [f"adapt:{kind}" + (f":{count}" if count > 1 else "") for kind, count in zip(kinds, counts, strict=True)]
