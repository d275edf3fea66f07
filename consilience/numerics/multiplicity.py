"""P-values of many scores at once."""

from typing import Literal

import numpy as np

from consilience.numerics.arrays import Float64Array


def adjust(p_values: Float64Array, method: Literal["holm", "benjamini_hochberg"]) -> Float64Array:
    """Adjust p-values for their number: significant at alpha where the adjusted value is at most alpha.

    holm: controls the chance of any false finding, under any dependence. benjamini_hochberg: controls the expected share
    of false findings, under independence or positive dependence.

    Parameters
    ----------
    p_values : array of shape (m,)

    References
    ----------
    Holm 1979; Benjamini and Hochberg 1995.

    Examples
    --------
    >>> adjust(np.array([0.01, 0.04, 0.03]), "holm").round(3).tolist()
    [0.03, 0.06, 0.06]
    >>> adjust(np.array([0.01, 0.04, 0.03]), "benjamini_hochberg").round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    m = len(p_values)
    if m == 0:
        return p_values
    order = np.argsort(p_values)
    ranked = p_values[order]
    if method == "holm":
        stepped = np.maximum.accumulate(ranked * (m - np.arange(m)))
    else:
        stepped = np.minimum.accumulate((ranked * m / np.arange(1, m + 1))[::-1])[::-1]
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted
