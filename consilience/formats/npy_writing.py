"""Writes an npy file block by block."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from consilience.formats.drafts import draft
from consilience.formats.matrices import Array


def write_npy(path: Path, shape: tuple[int, int], blocks: Iterable[Array]) -> None:
    """Write rows of float32; the whole file is there when this returns, else what was there before.

    Raises
    ------
    StorageFull, InputError, or what the blocks raise
    """
    with draft(path) as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for block in blocks:
            out.write(np.ascontiguousarray(block, "<f4").data)
