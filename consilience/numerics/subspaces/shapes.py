"""Shape distances: differences of two layers after the best rotation, or between linear predictions from each."""

from collections.abc import Iterator
from math import acos, asin, sqrt

import numpy as np

from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.rows.parallel import block_rows
from consilience.numerics.stats.nulls import Permutation
from consilience.numerics.subspaces.spectra import (
    ScaledDirections,
    Spectrum,
    find_cross,
    scale_directions,
    singular_values,
)

#: Above this cosine a distance is computed from the residual itself: 1 - cosine would lose half of its digits.
_NEAR = 1 - 1e-6


def procrustes(a: ScaledDirections, b: ScaledDirections, permutation: Permutation | None = None) -> float:
    """Cosine between two layers after the best rotation.

    |Xc' Yc|_* / (|Xc| |Yc|), _* the nuclear norm. Symmetric, in [0, 1]; the value at chance is estimated by permutation. Also
    called normalised Bures similarity; the cosine of `angular_shape` at alpha = 1.

    Parameters
    ----------
    a, b : ScaledDirections of norm 1 of the same n rows
        `unit_shape(find_spectrum(x), 1.0)`.
    permutation : array of n row numbers, optional
        Pairs row i of a with row p(i) of b.

    References
    ----------
    Harvey et al. 2024, arXiv 2312.03045, eq. 8; Ding et al. 2021, arXiv 2108.01661.

    Examples
    --------
    >>> from consilience.numerics.subspaces.spectra import find_spectrum
    >>> x = np.array([[1, 0], [-1, 0], [0, 2], [0, -2]], dtype=np.float32)
    >>> rotated = x @ np.array([[0, 1], [-1, 0]], dtype=np.float32)
    >>> round(procrustes(*(unit_shape(find_spectrum(each), 1.0) for each in (x, rotated))), 6)
    1.0
    """
    found = singular_values(find_cross(a, b, permutation), approximate=permutation is not None)
    return min(1.0, float(found.sum()))


def bures(a: ScaledDirections, b: ScaledDirections, permutation: Permutation | None = None) -> float:
    """Distance between two layers of norm 1 after the best rotation.

    sqrt(2 - 2 |Xc' Yc|_* / (|Xc| |Yc|)). Symmetric, in [0, sqrt 2], obeys the triangle inequality; the value at chance is
    estimated by permutation.

    Parameters
    ----------
    a, b, permutation : as in `procrustes`

    References
    ----------
    Harvey et al. 2024, arXiv 2312.03045; Bures 1969.

    Examples
    --------
    >>> from consilience.numerics.subspaces.spectra import find_spectrum
    >>> x, y = (np.array(rows, dtype=np.float32)[:, None] for rows in ([1, -1, 0, 0], [0, 0, 1, -1]))
    >>> round(bures(*(unit_shape(find_spectrum(each), 1.0) for each in (x, y))) ** 2, 6)
    2.0
    """
    cosine = procrustes(a, b, permutation)
    if cosine > _NEAR and permutation is None and a.has_rows and b.has_rows:
        return sqrt(sum(float(np.vdot(difference, difference)) for _, difference in _align(a, b)))
    return sqrt(2 - 2 * cosine)


def angular_shape(a: ScaledDirections, b: ScaledDirections, permutation: Permutation | None = None) -> float:
    """Angle between two layers after the best rotation and partial whitening, in radians.

    arccos |Z_A' Z_B|_*, Z = Xc (alpha I + (1 - alpha) (Xc' Xc)^(-1/2)) scaled to norm 1. Symmetric, in [0, pi/2], obeys the
    triangle inequality; the value at chance is estimated by permutation. alpha = 1: rotations only; 0: whitened, arccos of the
    sum of canonical correlations over sqrt(rank A rank B).

    Parameters
    ----------
    a, b : ScaledDirections of norm 1 of the same n rows
        `unit_shape(find_spectrum(x), alpha)`.
    permutation : as in `procrustes`

    References
    ----------
    Williams et al. 2021, arXiv 2110.14739, eq. 7 and 11.

    Examples
    --------
    >>> from consilience.numerics.subspaces.spectra import find_spectrum
    >>> x, y = (np.array(rows, dtype=np.float32)[:, None] for rows in ([1, -1, 0, 0], [0, 0, 1, -1]))
    >>> round(angular_shape(*(unit_shape(find_spectrum(each), 1.0) for each in (x, y))), 6)
    1.570796
    """
    cosine = procrustes(a, b, permutation)
    if cosine > _NEAR and permutation is None:
        return 2 * asin(bures(a, b) / 2)
    return acos(cosine)


def unit_shape(spectrum: Spectrum, alpha: float) -> ScaledDirections:
    """Whiten a layer partially and scale it to norm 1: singular values alpha s + (1 - alpha), divided by their norm."""
    weights = alpha * spectrum.values + (1 - alpha)
    return scale_directions(spectrum, weights / np.linalg.norm(weights))


def gulp(a: ScaledDirections, b: ScaledDirections, permutation: Permutation | None = None) -> float:
    """Largest mean difference between ridge predictions from two layers, over all targets of unit size.

    sqrt(T_AA + T_BB - 2 T_AB), T_AB = tr((S_A + l I)^-1 S_AB (S_B + l I)^-1 S_BA), rows centred and scaled to unit mean
    square. Symmetric, 0 or more, at most sqrt(T_AA + T_BB), obeys the triangle inequality; the value at chance is estimated by
    permutation.

    Parameters
    ----------
    a, b : ScaledDirections of the same n rows
        `ridge_shape(find_spectrum(x), l)`: T_AB = |Z_A' Z_B|^2.
    permutation : as in `procrustes`

    References
    ----------
    Boix-Adsera et al. 2022, arXiv 2210.06545, eq. 6.

    Examples
    --------
    One direction each, at right angles: at l = 1, T_AA = T_BB = (1 / (1 + 1))^2.

    >>> from consilience.numerics.subspaces.spectra import find_spectrum
    >>> x, y = (np.array(rows, dtype=np.float32)[:, None] for rows in ([1, -1, 0, 0], [0, 0, 1, -1]))
    >>> round(gulp(*(ridge_shape(find_spectrum(each), 1.0) for each in (x, y))) ** 2, 6)
    0.5
    """
    cross = find_cross(a, b, permutation)
    own = float((a.weights**4).sum() + (b.weights**4).sum())
    square = own - 2 * float(np.vdot(cross, cross))
    if square < (1 - _NEAR) * own and permutation is None and a.has_rows and b.has_rows:
        return _gulp_residual(a, b)
    return sqrt(max(0.0, square))


def ridge_shape(spectrum: Spectrum, ridge: float) -> ScaledDirections:
    """Weight a layer's directions as ridge regression does: s / sqrt(s^2 + l), with sum s^2 = 1 (unit mean square rows)."""
    squares = spectrum.values**2 / (spectrum.values @ spectrum.values)
    return scale_directions(spectrum, np.sqrt(squares / (squares + ridge)))


def _align(a: ScaledDirections, b: ScaledDirections) -> Iterator[tuple[Float64Array, Float64Array]]:
    """Rotate the layer of lower rank onto the other and yield their sum and difference, (rows, r), by blocks of rows."""
    small, large = (a, b) if a.rank <= b.rank else (b, a)
    left, _, right = np.linalg.svd(find_cross(small, large), full_matrices=False)
    step = block_rows(max(len(small.mean), len(large.mean)))
    for of_small, of_large in zip(small.blocks(step), large.blocks(step), strict=True):
        rotated = of_small @ (left @ right)
        yield rotated + of_large, rotated - of_large


def _gulp_residual(a: ScaledDirections, b: ScaledDirections) -> float:
    """Compute |Z_A Z_A' - Z_B Z_B'| without cancellation: with sum S and difference E, it is |S E' + E S'| / 2."""
    r = max(a.rank, b.rank)
    sums, differences, mixed = (np.zeros((r, r)) for _ in range(3))
    for total, difference in _align(a, b):
        sums += total.T @ total
        differences += difference.T @ difference
        mixed += total.T @ difference
    square = np.vdot(sums, differences) + np.vdot(mixed.T, mixed)
    return sqrt(max(0.0, float(square) / 2))
