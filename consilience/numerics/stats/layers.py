"""Aggregation of a grid of layer pairs into one score."""

from typing import Literal, get_args

import numpy as np

from consilience.numerics.rows.arrays import Float64Array

Aggregate = Literal["max", "row_max_mean", "column_max_mean", "top_k_mean", "hungarian_mean"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)


def aggregate(grid: Float64Array, how: Aggregate, top_k: int) -> float:
    """Reduce a grid of similarities to one number.

    max: the best pair. row_max_mean: the mean, over a's layers, of each layer's best value; column_max_mean: the same
    over b's layers. top_k_mean: the mean of the k best pairs (of all, if there are fewer). hungarian_mean: the mean over the
    one-to-one matching of layers with the largest sum. No aggregate is above max.

    Parameters
    ----------
    grid : array of shape (L_A, L_B), float64
        NaN for an undefined pair; such pairs, and rows or columns without a defined pair, are left out.
    how : one of AGGREGATES
    top_k : int >= 1

    Returns
    -------
    float, NaN if no pair is defined

    References
    ----------
    Groeger et al. 2026, arXiv 2602.14486, appendix B.

    Examples
    --------
    >>> grid = np.array([[0.9, 0.2], [0.8, 0.1]])
    >>> [round(aggregate(grid, how, 3), 3) for how in AGGREGATES]
    [0.9, 0.85, 0.55, 0.633, 0.5]
    """
    defined = ~np.isnan(grid)
    if not defined.any():
        return float("nan")
    if how == "max":
        return float(np.nanmax(grid))
    if how == "row_max_mean":
        return float(np.nanmax(grid[defined.any(axis=1)], axis=1).mean())
    if how == "column_max_mean":
        return float(np.nanmax(grid[:, defined.any(axis=0)], axis=0).mean())
    if how == "top_k_mean":
        return float(np.sort(grid[defined])[::-1][:top_k].mean())
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - takes a tenth of a worker's start, for a rare aggregate

    rows, columns = linear_sum_assignment(np.where(defined, grid, np.nanmin(grid) - 1e6), maximize=True)
    return float(np.nanmean(grid[rows, columns]))
