"""A few vectors through a map, with numpy alone: for whoever must answer at once and computes nothing else.

Large sets go through `consilience.maps.api`, which uses every core; both give the same numbers to rounding.
"""

from math import erf, sqrt

import numpy as np
import numpy.typing as npt

from consilience.contract.maps import MlpMap
from consilience.errors import InvalidShape, NonFiniteValues
from consilience.formats.map_files import MapFile

Rows = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.float64]
_erf = np.frompyfunc(erf, 1, 1)


def translate_vectors(file: MapFile, vectors: Vectors) -> Rows:
    """Translate rows of a's space, (m, p), into b's, (m, q), as `consilience.maps.api.Map.apply` does it.

    Raises
    ------
    InvalidShape
        Another dimension than the map takes.
    NonFiniteValues
        A number, or a translation, that float32 cannot hold.
    """
    rows = _check(file.card.a.dim, vectors)
    if file.card.preparation == "l2":
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        rows = (rows / np.where(lengths == 0, 1, lengths)).astype(np.float32)
    *before, (weights, bias) = file.steps
    with np.errstate(over="ignore", invalid="ignore"):
        for first, first_bias in before:
            rows = rows @ first + first_bias
            if isinstance(file.card.map, MlpMap):
                rows = (rows * (1 + _erf(rows * sqrt(0.5)).astype(np.float64)) / 2).astype(np.float32)
        found = rows @ weights + bias
    if not np.isfinite(found).all():
        raise NonFiniteValues(
            "The translations are too large for float32.", hint="Send vectors like those of the model."
        )
    return found


def _check(dim: int, vectors: Vectors) -> Rows:
    if vectors.shape[1] != dim:
        raise InvalidShape(
            f"The vectors have {vectors.shape[1]} dimensions, the map takes {dim}.",
            value=vectors.shape[1],
            limit=dim,
            hint="Translate vectors of the model that the map was fitted on, one a row.",
        )
    with np.errstate(over="ignore"):
        rows = vectors.astype(np.float32)
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0].tolist()
        raise NonFiniteValues(
            f"Row {row}, column {column} is too large for float32.",
            value=vectors[row, column],
            pointer=f"/{row}/{column}",
        )
    return rows
