"""How far metrics agree about the pairs of models of a study."""

from collections.abc import Callable
from math import atanh, sqrt, tanh

import numpy as np
from scipy.special import ndtri

from consilience.numerics.arrays import Float64Array
from consilience.numerics.correlations import TOLERANCE, Correlation
from consilience.numerics.ranks import average_ranks

#: Random orders of the models for the p-value.
DRAWS = 999


def agree(x: Float64Array, y: Float64Array, *, square: bool, level: float = 0.95, seed: int = 0) -> Correlation | None:
    """Rank correlation of two metrics over the pairs of models of a study.

    Pairs share models, so that neither an interval nor a p-value may count pairs as if each were new. The interval is that of
    the jackknife over models, on Fisher's scale: every row, and every column, left out in turn, their variances added. The
    p-value is Mantel's: the models of one metric change places, 999 times at random.

    Parameters
    ----------
    x, y : arrays of shape (rows, columns)
        The scores of two metrics; NaN where a pair has none, such as the lower triangle and diagonal of models against
        themselves.
    square : bool
        Whether rows and columns are the same models: then both are left out and change places together.
    seed : int

    Returns
    -------
    Correlation, or None with fewer than 3 pairs or where one of the metrics is constant. `low` and `high` are None where
    leaving out a model leaves too little.

    References
    ----------
    Mantel 1967, Cancer Research 27:209-220; Huh et al. 2024, arXiv 2405.07987, figure 12.

    Examples
    --------
    >>> x = np.arange(12.0).reshape(3, 4)
    >>> agree(x, x**3, square=False).value
    1.0
    """
    if square:
        x, y = _mirror(x), _mirror(y)
    value = _rank_correlation(x, y)
    if value is None:
        return None
    pairs = int((~np.isnan(x) & ~np.isnan(y)).sum()) // (2 if square else 1)
    low, high = _jackknife(x, y, value, square=square, level=level)
    return Correlation(value, low, high, _mantel(x, y, square=square, seed=seed), exact=False, n=pairs)


def _mirror(x: Float64Array) -> Float64Array:
    """Both triangles of a symmetric matrix, from whichever is filled; no diagonal."""
    full = np.where(np.isnan(x), x.T, x)
    np.fill_diagonal(full, np.nan)
    return full


def _rank_correlation(x: Float64Array, y: Float64Array) -> float | None:
    known = ~np.isnan(x) & ~np.isnan(y)
    if known.sum() < 3:
        return None
    a, b = (average_ranks(side[known]) - (known.sum() + 1) / 2 for side in (x, y))
    length = sqrt(float(a @ a) * float(b @ b))
    if length == 0:
        return None
    value = float(np.clip(a @ b / length, -1.0, 1.0))
    return float(np.sign(value)) if abs(value) >= 1 - TOLERANCE else value


def _jackknife(
    x: Float64Array, y: Float64Array, value: float, *, square: bool, level: float
) -> tuple[float | None, float | None]:
    if abs(value) == 1:
        return None, None

    def without(j: int, axis: int) -> float:
        def drop(side: Float64Array) -> Float64Array:
            kept = np.delete(side, j, axis)
            return np.delete(kept, j, 1) if square else kept

        found = _rank_correlation(drop(x), drop(y))
        return float("nan") if found is None else atanh(float(np.clip(found, -1 + TOLERANCE, 1 - TOLERANCE)))

    variance = 0.0
    for axis in (0,) if square else (0, 1):
        n = x.shape[axis]
        values = np.array([without(j, axis) for j in range(n)])
        variance += (n - 1) / n * float(((values - values.mean()) ** 2).sum())
    if np.isnan(variance):
        return None, None
    width = float(ndtri((1 + level) / 2)) * sqrt(variance)
    return tanh(atanh(value) - width), tanh(atanh(value) + width)


def _mantel(x: Float64Array, y: Float64Array, *, square: bool, seed: int) -> float:
    """(1 + draws at least as far from 0) / (draws + 1); pairs keep their ranks when models change places."""
    rng = np.random.default_rng(seed)
    move = _move_together(rng) if square else _move_apart(rng)
    a, b = (average_ranks(side).reshape(side.shape) for side in (x, y))
    value = abs(_linear(a, b)) - TOLERANCE
    return (1 + sum(not abs(_linear(a, move(b))) < value for _ in range(DRAWS))) / (DRAWS + 1)


def _linear(a: Float64Array, b: Float64Array) -> float:
    """Correlation over the entries that both have; NaN where one of them is constant there."""
    known = ~np.isnan(a) & ~np.isnan(b)
    x, y = (side[known] - side[known].mean() for side in (a, b))
    length = sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / length if length else float("nan")


def _move_together(rng: np.random.Generator) -> Callable[[Float64Array], Float64Array]:
    def move(side: Float64Array) -> Float64Array:
        order = rng.permutation(len(side))
        return np.asarray(side[np.ix_(order, order)])

    return move


def _move_apart(rng: np.random.Generator) -> Callable[[Float64Array], Float64Array]:
    def move(side: Float64Array) -> Float64Array:
        return np.asarray(side[np.ix_(rng.permutation(side.shape[0]), rng.permutation(side.shape[1]))])

    return move
