"""Null hypotheses by relabelling: which relabellings are drawn, and what their draws say."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilience.numerics.arrays import Float64Array, IdArray

#: Row numbers in another order.
Permutation = npt.NDArray[np.intp]


def draw_permutation(rng: np.random.Generator, n: int, groups: IdArray | None = None) -> Permutation:
    """Draw a relabelling of n items.

    With groups (several captions of one image, say) whole groups change places with groups of the same size, their items
    in order: items of one group stay together, as exchangeability demands.

    Parameters
    ----------
    groups : array of shape (n,), int32, optional
        The group number of each item.
    """
    if groups is None:
        return rng.permutation(n)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
    sizes = np.diff(np.append(starts, n))
    permutation = np.empty(n, dtype=np.intp)
    for size in np.unique(sizes):
        members = order[starts[sizes == size][:, None] + np.arange(size)]
        permutation[members] = members[rng.permutation(len(members))]
    return permutation


@dataclass(frozen=True)
class PermutationNull:
    """What K random relabellings gave. Larger values are more surprising."""

    draws: Float64Array

    def p_value(self, value: float) -> float:
        """(1 + #{draws >= value}) / (K + 1): valid at any K."""
        return float((1 + (self.draws >= value).sum()) / (len(self.draws) + 1))

    def threshold(self, value: float, alpha: float) -> float:
        """The order statistic of rank ceil((1 - alpha)(K + 1)) among the draws and the observed value.

        References
        ----------
        Groeger et al. 2026, arXiv 2602.14486, section 3.
        """
        pool = np.sort(np.append(self.draws, value))
        # K + 1 - floor(alpha (K + 1)): the ceiling without its rounding error.
        rank = len(pool) - int(np.floor(alpha * len(pool) + 1e-9))
        return float(pool[rank - 1])
