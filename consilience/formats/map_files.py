"""Files of maps: safetensors whose header carries a card, a JSON text that says what the map is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilience.errors import NonFiniteValues, TooLarge, UnreadableFile
from consilience.formats import safetensors
from consilience.formats.drafts import draft
from consilience.formats.gate import check_size
from consilience.formats.reading import Fill, fill_at

#: The key of the card in the header's metadata.
CARD = "consilience.map"
#: Bytes of a map's values, at most: a map of 65,536 to 16,384 dimensions.
VALUES_LIMIT_BYTES = 4 * 1024**3
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MapFile:
    """A map as it lies in a file.

    Attributes
    ----------
    card : JSON text
    tensors : float32 arrays by name
    """

    card: str
    tensors: Mapping[str, Weights]

    @property
    def digest(self) -> str:
        """SHA-256 over the tensors' names, shapes and bytes."""
        return find_digest(self.tensors)


def find_digest(tensors: Mapping[str, Weights]) -> str:
    """SHA-256 over the tensors' names, shapes and bytes."""
    found = sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, list(tensor.shape)]).encode() + b"\n")
        found.update(np.ascontiguousarray(tensor, "<f4").data)
    return found.hexdigest()


def write_map(path: Path, file: MapFile) -> None:
    """Write a map: the whole file is there when this returns, else what was there before.

    Raises
    ------
    StorageFull, InputError (the path cannot be written)
    """
    with draft(path) as out:
        out.write(_header(file))
        for _, tensor in sorted(file.tensors.items()):
            out.write(np.ascontiguousarray(tensor, "<f4").data)


def _header(file: MapFile) -> bytes:
    entries: dict[str, object] = {"__metadata__": {CARD: file.card}}
    start = 0
    for name, tensor in sorted(file.tensors.items()):
        entries[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, start + tensor.nbytes]}
        start += tensor.nbytes
    raw = json.dumps(entries).encode()
    raw += b" " * (-len(raw) % 8)  # values begin at a multiple of eight bytes
    return len(raw).to_bytes(8, "little") + raw


def read_map(path: Path) -> MapFile:
    """Read a map: all of its bytes are there and are finite numbers, its card is text.

    Raises
    ------
    UnreadableFile, TooLarge, NonFiniteValues
    """
    if not path.is_file():
        raise UnreadableFile("There is no such file.", value=path, hint="Check the path.")
    with path.open("rb", buffering=0) as file:
        header = safetensors.read_header(file.fileno())
        card = header.metadata.get(CARD) if isinstance(header.metadata, dict) else None
        if not isinstance(card, str):
            raise UnreadableFile(
                "The file is no map: its header has no card.", value=path, hint="`consilience map fit` writes maps."
            )
        size = path.stat().st_size - header.base
        if size > VALUES_LIMIT_BYTES:
            raise TooLarge("The map is too large.", value=size, limit=VALUES_LIMIT_BYTES)
        fill = fill_at(file.fileno(), header.base)
        return MapFile(card, {name: _read_tensor(fill, name, entry) for name, entry in header.entries.items()})


def _read_tensor(fill: Fill, name: str, entry: dict[str, Any]) -> Weights:
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    if entry["dtype"] != "F32" or len(shape) not in (1, 2) or 0 in shape:
        raise UnreadableFile(f"Tensor {name!a} is no part of a map.", value=f"{entry['dtype']} {shape}")
    check_size(shape, np.dtype("<f4"), end - begin, f"Tensor {name!a}")
    raw = np.empty(end - begin, np.uint8)
    fill(raw.data, begin)
    values = raw.view("<f4").reshape(shape)
    if not np.isfinite(values).all():
        raise NonFiniteValues(f"Tensor {name!a} of the map holds NaN or infinity.", value=name)
    return values
