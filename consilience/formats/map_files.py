"""Map files: safetensors whose header contains the map's card, a JSON document that describes the map."""

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

#: Key of the map's card in the header's metadata.
CARD_KEY = "consilience.map"
#: Largest size of a map's values: a map from 65,536 to 16,384 dimensions.
VALUES_LIMIT_BYTES = 4 * 1024**3
#: Size of the pieces in which a file is sent or written.
PIECE_BYTES = 1 << 20
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MapFile:
    """Content of a map file: the card, and one or two steps `0.weights`, `0.bias`, `1.weights`, `1.bias`.

    Attributes
    ----------
    card : description of the map
    tensors : float32 arrays by name
    """

    card: MapDocument
    tensors: Mapping[str, Weights]

    @property
    def steps(self) -> list[tuple[Weights, Weights]]:
        """Weights and bias of each step."""
        count = len(self.tensors) // 2
        return [(self.tensors[f"{index}.weights"], self.tensors[f"{index}.bias"]) for index in range(count)]

    def check(self) -> None:
        """Check that the tensors are steps from a's dimensions to b's, and that the card's digest is theirs.

        Raises
        ------
        UnreadableFile
        """
        if not self._has_matching_shapes():
            raise UnreadableFile(
                f"The map's tensors do not map {self.card.a.dim} dimensions to {self.card.b.dim}.",
                value={name: tensor.shape for name, tensor in self.tensors.items()},
            )
        if (digest := tensors_digest(self.tensors)) != self.card.digest:
            raise UnreadableFile(
                "The digest of the map's values differs from the digest in its card.",
                value=digest,
                limit=self.card.digest,
                hint="The file is damaged or was edited: fit or download the map again.",
            )

    def _has_matching_shapes(self) -> bool:
        count = 1 if self.card.map.kind in ("procrustes", "ridge") else 2
        if set(self.tensors) != {f"{index}.{part}" for index in range(count) for part in ("weights", "bias")}:
            return False
        steps = self.steps
        if any(weights.ndim != 2 or bias.shape != weights.shape[1:] for weights, bias in steps):
            return False
        widths = [steps[0][0].shape[0], *(weights.shape[1] for weights, _ in steps)]
        joined = all(weights.shape[0] == width for (weights, _), width in zip(steps, widths, strict=False))
        return joined and (widths[0], widths[-1]) == (self.card.a.dim, self.card.b.dim)


def tensors_digest(tensors: Mapping[str, Weights]) -> str:
    """Return the SHA-256 of the tensors' names, shapes and bytes."""
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, list(tensor.shape)]).encode() + b"\n")
        digest.update(np.ascontiguousarray(tensor, "<f4").data)
    return digest.hexdigest()


def write_map(path: Path, file: MapFile) -> None:
    """Write a map file, atomically.

    Raises
    ------
    StorageFull, InputError (the path cannot be written)
    """
    with atomic_write(path) as out:
        for piece in dump_map(file):
            out.write(piece)


def dump_map(file: MapFile) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a map file, piece by piece."""
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
    """Read a map file, and check its card, its tensors and that all values are finite.

    Raises
    ------
    UnreadableFile, TooLarge, NonFiniteValues
    """
    if not path.is_file():
        raise UnreadableFile(f"There is no file {path}.", value=path, hint="Check the path.")
    with path.open("rb", buffering=0) as file:
        header = safetensors.read_header(file.fileno())
        card = _parse_card(header.metadata)
        size = path.stat().st_size - header.base
        if size > VALUES_LIMIT_BYTES:
            raise TooLarge(
                f"The map's values have {size} bytes; the limit is {VALUES_LIMIT_BYTES}.",
                value=size,
                limit=VALUES_LIMIT_BYTES,
            )
        fill = fill_at(file.fileno(), header.base)
        result = MapFile(card, {name: _read_tensor(fill, name, entry) for name, entry in header.entries.items()})
    result.check()
    return result


def _parse_card(metadata: object) -> MapDocument:
    text = metadata.get(CARD_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise UnreadableFile(
            "The file is not a map file: its header has no card.", hint="Write map files with `consilience map fit`."
        )
    try:
        return MapDocument.model_validate_json(text)
    except ValueError as error:  # pydantic's is one
        raise UnreadableFile("The card of the map is not valid.", value=text, hint="Fit the map again.") from error


def _read_tensor(fill: Fill, name: str, entry: dict[str, Any]) -> Weights:
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    if entry["dtype"] != "F32" or len(shape) not in (1, 2) or 0 in shape:
        raise UnreadableFile(f"Tensor {name!a} does not belong to a map.", value=f"{entry['dtype']} {shape}")
    check_size(shape, np.dtype("<f4"), end - begin, f"Tensor {name!a}")
    raw = np.empty(end - begin, np.uint8)
    fill(raw.data, begin)
    values = raw.view("<f4").reshape(shape)
    if not np.isfinite(values).all():
        raise NonFiniteValues(f"Tensor {name!a} of the map contains NaN or infinity.", value=name)
    return values
