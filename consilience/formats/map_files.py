"""Files of maps: safetensors whose header carries a card, a JSON text that says what the map is."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilience.contract.maps import MapDocument
from consilience.errors import NonFiniteValues, TooLarge, UnreadableFile
from consilience.formats import safetensors
from consilience.formats.checks import check_size
from consilience.formats.reading import Fill, fill_at
from consilience.formats.writing import atomic_write

#: The key of the card in the header's metadata.
CARD_KEY = "consilience.map"
#: Bytes of a map's values, at most: a map of 65,536 to 16,384 dimensions.
VALUES_LIMIT_BYTES = 4 * 1024**3
#: Bytes of a file that are sent or written at once.
PIECE_BYTES = 1 << 20
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MapFile:
    """A map as it lies in a file: one or two steps, `0.weights`, `0.bias`, `1.weights`, `1.bias`.

    Attributes
    ----------
    card : what the map is
    tensors : float32 arrays by name
    """

    card: MapDocument
    tensors: Mapping[str, Weights]

    @property
    def steps(self) -> list[tuple[Weights, Weights]]:
        """Weights and bias of each step."""
        count = len(self.tensors) // 2
        return [(self.tensors[f"{place}.weights"], self.tensors[f"{place}.bias"]) for place in range(count)]

    def check(self) -> None:
        """Refuse tensors that are no steps from a's dimensions to b's, or not those that the card is about.

        Raises
        ------
        UnreadableFile
        """
        if not self._leads():
            raise UnreadableFile(
                f"The map's values do not lead from {self.card.a.dim} to {self.card.b.dim} dimensions.",
                value={name: tensor.shape for name, tensor in self.tensors.items()},
            )
        if (found := tensors_digest(self.tensors)) != self.card.digest:
            raise UnreadableFile(
                "The map's values are not those that its card is about.", value=found, limit=self.card.digest
            )

    def _leads(self) -> bool:
        count = 1 if self.card.map.kind in ("procrustes", "ridge") else 2
        if set(self.tensors) != {f"{place}.{part}" for place in range(count) for part in ("weights", "bias")}:
            return False
        steps = self.steps
        if any(weights.ndim != 2 or bias.shape != weights.shape[1:] for weights, bias in steps):
            return False
        widths = [steps[0][0].shape[0], *(weights.shape[1] for weights, _ in steps)]
        joined = all(weights.shape[0] == width for (weights, _), width in zip(steps, widths, strict=False))
        return joined and (widths[0], widths[-1]) == (self.card.a.dim, self.card.b.dim)


def tensors_digest(tensors: Mapping[str, Weights]) -> str:
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
    with atomic_write(path) as out:
        for piece in dump_map(file):
            out.write(piece)


def dump_map(file: MapFile) -> Iterator[bytes | memoryview]:
    """The bytes of a map's file, piece by piece."""
    yield _header(file)
    for _, tensor in sorted(file.tensors.items()):
        raw = np.ascontiguousarray(tensor, "<f4").reshape(-1).view(np.uint8).data
        yield from (raw[start : start + PIECE_BYTES] for start in range(0, len(raw), PIECE_BYTES))


def _header(file: MapFile) -> bytes:
    entries: dict[str, object] = {"__metadata__": {CARD_KEY: file.card.model_dump_json(by_alias=True)}}
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
        card = _parse_card(header.metadata)
        size = path.stat().st_size - header.base
        if size > VALUES_LIMIT_BYTES:
            raise TooLarge("The map is too large.", value=size, limit=VALUES_LIMIT_BYTES)
        fill = fill_at(file.fileno(), header.base)
        found = MapFile(card, {name: _read_tensor(fill, name, entry) for name, entry in header.entries.items()})
    found.check()
    return found


def _parse_card(metadata: object) -> MapDocument:
    text = metadata.get(CARD_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise UnreadableFile("The file is no map: its header has no card.", hint="`consilience map fit` writes maps.")
    try:
        return MapDocument.model_validate_json(text)
    except ValueError as error:  # pydantic's is one
        raise UnreadableFile("The map's card cannot be read.", value=text, hint="Fit the map again.") from error


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
