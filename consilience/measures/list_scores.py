"""How each metric of neighbour lists is computed: what it reads of a layer, and the score of two layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from consilience.contract.kernel_metrics import Cknna
from consilience.contract.metric import NeighbourMetric
from consilience.contract.neighbour_metrics import CycleKnn, LcsKnn
from consilience.contract.scores import Reason
from consilience.numerics import overlap
from consilience.numerics.arrays import Float64Array
from consilience.numerics.cknna import cknna, weigh
from consilience.numerics.compiled import BoolArray
from consilience.numerics.lists import Lists
from consilience.numerics.nulls import Law, MeanLaw, NullLaw
from consilience.numerics.permutations import Permutation
from consilience.numerics.relabelling import count_graph, cycle_knn_law, mutual_knn_law


class Relabels(Protocol):
    """What a metric reads of one layer."""

    def relabelled(self, permutation: Permutation) -> Self:
        """Give item i the place of item p(i)."""


T = TypeVar("T", bound=Relabels)
_UNDEFINED = Reason(code="undefined", detail="The score has no value.")
Read = Callable[[Lists, int], T]
#: Called with what is done and what there is to do.
Report = Callable[[int, int], None]
#: All layer pairs, with b's items permuted; None is the identity.
Grid = Callable[[Permutation | None], Float64Array]


def _score_grid(score: Callable[[T, T], float], a: Sequence[T], b: Sequence[T], report: Report) -> Grid:
    """Score one layer pair after the other; the report is of the unpermuted grid."""

    def fill(permutation: Permutation | None) -> Float64Array:
        moved = b if permutation is None else [layer.relabelled(permutation) for layer in b]
        grid = np.empty((len(a), len(b)))
        for done, (i, j) in enumerate(np.ndindex(*grid.shape)):
            if permutation is None:
                report(done, grid.size)
            grid[i, j] = score(a[i], moved[j])
        return grid

    return fill


def _no_law(_a: object, _b: object) -> Law:
    raise LookupError("a law is asked for only where the metric's nulls name analytic")


@dataclass(frozen=True)
class ListScore(Generic[T]):
    """How a metric of neighbour lists is computed.

    Attributes
    ----------
    score : the value of two layers; NaN where it is undefined
    read : from a layer's lists of at least k neighbours, and k, to what `score` reads of them
    undefined : why a value can be undefined
    law : the closed-form null law of two layers, where there is one
    bind : from the layers of both sides to their grid; replaced where one kernel counts all pairs at once
    parts : the value of two layers, of lists longer than k, on many parts of the rows at once, where one kernel counts them
    """

    score: Callable[[T, T], float]
    read: Read[T]
    undefined: Reason = _UNDEFINED
    law: Callable[[T, T], Law] = _no_law
    bind: Callable[[Callable[[T, T], float], Sequence[T], Sequence[T], Report], Grid] = _score_grid
    parts: Callable[[Lists, Lists, int, BoolArray], Float64Array] | None = None

    def grid(self, a: Sequence[T], b: Sequence[T], report: Report) -> Grid:
        """Prepare the grid of all layer pairs."""
        return self.bind(self.score, a, b, report)


def find_score(metric: NeighbourMetric) -> ListScore[Any]:
    """Find how a metric with single options is computed."""
    return _SCORES[metric.metric](metric)


def _plain(score: Callable[[Lists, Lists], float], **facts: Any) -> ListScore[Lists]:
    return ListScore(score, Lists.first, **facts)


def _count_at_once(_score: object, a: Sequence[Lists], b: Sequence[Lists], _report: Report) -> Grid:
    return partial(overlap.mutual_knn_grid, np.stack([lists.ids for lists in a]), np.stack([lists.ids for lists in b]))


def _mutual_law(a: Lists, b: Lists) -> NullLaw:
    return mutual_knn_law(count_graph(a.ids, a.k), count_graph(b.ids, b.k), a.n)


def _cycle(metric: CycleKnn) -> ListScore[Lists]:
    def law(a: Lists, b: Lists) -> MeanLaw:
        stepped = {"ab": (a,), "ba": (b,), "mean": (a, b)}[metric.direction]
        means = [cycle_knn_law(lists.ids, lists.k).mean for lists in stepped]
        return MeanLaw(sum(means) / len(means))

    return _plain(partial(overlap.cycle_knn, direction=metric.direction), law=law)


def _lcs(metric: LcsKnn) -> ListScore[Lists]:
    return _plain(partial(overlap.lcs_knn, raw=metric.raw))


def _cknna(metric: Cknna) -> ListScore[Any]:
    reason = Reason(
        code="non-positive-self-similarity",
        detail="The similarity of one of the layers with itself is not above 0; CKNNA divides by its root.",
    )
    return ListScore(partial(cknna, variant=metric.variant), partial(weigh, variant=metric.variant), undefined=reason)


_NO_DIRECTION = Reason(
    code="zero-similarities",
    detail="In one of the spaces an item has similarity 0 to all neighbours that either lists: their cosine has no value.",
)
_SCORES: dict[str, Callable[[Any], ListScore[Any]]] = {
    "mutual_knn": lambda _: _plain(
        overlap.mutual_knn, law=_mutual_law, bind=_count_at_once, parts=overlap.mutual_knn_in_parts
    ),
    "jaccard_knn": lambda _: _plain(overlap.jaccard_knn),
    "rank_similarity": lambda _: _plain(overlap.rank_similarity),
    "lcs_knn": _lcs,
    "edit_distance_knn": lambda _: _plain(overlap.edit_distance_knn),
    "second_order_cosine": lambda _: _plain(overlap.second_order_cosine, undefined=_NO_DIRECTION),
    "cycle_knn": _cycle,
    "cknna": _cknna,
}
