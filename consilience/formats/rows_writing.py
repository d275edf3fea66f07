"""Layers into a safetensors file, block by block: nothing of them is held in memory."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from consilience.formats.drafts import draft
from consilience.formats.matrices import Rows

_LENGTH_BYTES = 8


def write_rows(path: Path, rows: Rows, metadata: Mapping[str, str]) -> None:
    """Write layers under their names, whole or not at all; `metadata` stands in the header.

    Raises
    ------
    StorageFull, InputError, or what the rows raise
    """
    sizes = [layer.bytes for layer in rows.layers]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    tensors = {
        layer.name: {"dtype": layer.dtype, "shape": [layer.n, layer.dim], "data_offsets": [start, start + size]}
        for layer, start, size in zip(rows.layers, starts, sizes, strict=True)
    }
    header = json.dumps({"__metadata__": dict(metadata), **tensors}).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)
    with draft(path) as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        places = [_LENGTH_BYTES + len(header) + start for start in starts]
        for index, block in rows.blocks():
            file.seek(places[index])
            data = np.ascontiguousarray(block).view(np.uint8).reshape(-1).data
            file.write(data)
            places[index] += len(data)
