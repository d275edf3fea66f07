"""Translation of a few vectors by a map with numpy alone, for a request that is answered at once.

`consilience.maps.api` translates large sets on every core; both give the same numbers up to rounding.
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
    """Translate rows (m, p) of a's space into rows (m, q) of b's space, as `consilience.maps.api.Map.apply` does.

    Raises
    ------
    InvalidShape
        The vectors do not have the dimension of the map.
    NonFiniteValues
        A vector or a translation has a value that float32 cannot hold.
    """
    rows = _check(file.card.a.dim, vectors)
    if file.card.preparation == "l2":
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        rows = (rows / np.where(lengths == 0, 1, lengths)).astype(np.float32)
    *hidden, (weights, bias) = file.steps
    with np.errstate(over="ignore", invalid="ignore"):
        for hidden_weights, hidden_bias in hidden:
            rows = rows @ hidden_weights + hidden_bias
            if isinstance(file.card.map, MlpMap):
                rows = (rows * (1 + _erf(rows * sqrt(0.5)).astype(np.float64)) / 2).astype(np.float32)
        found = rows @ weights + bias
    if not np.isfinite(found).all():
        raise NonFiniteValues(
            "The translations are too large for float32.",
            hint="Send vectors on the scale of those that the map was fitted on.",
        )
    return found


def _check(dim: int, vectors: Vectors) -> Rows:
    if vectors.shape[1] != dim:
        raise InvalidShape(
            f"The vectors have {vectors.shape[1]} dimensions; the map takes vectors of {dim} dimensions.",
            value=vectors.shape[1],
            limit=dim,
            hint="Send vectors of the model that the map was fitted on, one per row.",
        )
    with np.errstate(over="ignore"):
        rows = vectors.astype(np.float32)
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0].tolist()
        raise NonFiniteValues(
            f"The value in row {row}, column {column} is too large for float32.",
            value=vectors[row, column],
            pointer=f"/{row}/{column}",
        )
    return rows
