"""Files in, layers out: which format reads which bytes.

The one entry to this room:

* `open_file` for an upload, by its media type;
* `open_path` for a local file, by its content;
* `load_layers` for an open file's layers as arrays, `read_layers` for a local file's.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from consilience.errors import UnreadableFile, UnsupportedFormat
from consilience.formats import npy, npz
from consilience.formats.matrices import NUMPY_DTYPES, Array, FormatLimits, LayerHeader, OpenFile
from consilience.formats.npy import open_npy
from consilience.formats.npz import open_npz
from consilience.formats.safetensors import open_safetensors
from consilience.formats.tables import ends
from consilience.formats.tables.opening import open_arrow_file, open_arrow_stream, open_parquet
from consilience.formats.vectors import from_vectors, open_vectors

__all__ = [
    "MEDIA_TYPES",
    "UNNAMED_MEDIA_TYPE",
    "FormatLimits",
    "LayerHeader",
    "OpenFile",
    "from_vectors",
    "load_layers",
    "open_file",
    "open_path",
    "read_layers",
]

#: The media types of uploads and the format that each names.
MEDIA_TYPES: dict[str, str] = {
    "application/x-npy": "npy",
    "application/x-npz": "npz",
    "application/x-safetensors": "safetensors",
    "application/json": "json",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow-file",
    "application/vnd.apache.arrow.stream": "arrow-stream",
}
#: Says nothing about the bytes: the format is told by them.
UNNAMED_MEDIA_TYPE = "application/octet-stream"

_Opener = Callable[[Path, FormatLimits], AbstractContextManager[OpenFile]]
_OPENERS: dict[str, _Opener] = {
    "npy": open_npy,
    "npz": open_npz,
    "safetensors": open_safetensors,
    "json": open_vectors,
    "parquet": open_parquet,
    "arrow-file": open_arrow_file,
    "arrow-stream": open_arrow_stream,
}
#: How the formats begin that have a mark.
_MAGICS = {
    npy.MAGIC: "npy",
    npz.MAGIC: "npz",
    ends.PARQUET_MAGIC: "parquet",
    ends.ARROW_FILE_MAGIC: "arrow-file",
    ends.ARROW_STREAM_MAGIC: "arrow-stream",
}
_SNIFFED_BYTES = 64


def open_file(path: Path, media_type: str | None, limits: FormatLimits) -> AbstractContextManager[OpenFile]:
    """The parsed file, as a context manager; None or application/octet-stream: the format is told by the bytes.

    Headers are read and checked when the context is entered, values while they are read.
    Raises UnsupportedFormat for another media type or unknown bytes, and what the format raises.
    """
    essence = (media_type or UNNAMED_MEDIA_TYPE).partition(";")[0].strip().lower()
    if essence == UNNAMED_MEDIA_TYPE:
        return _OPENERS[sniff(path)](path, limits)
    if essence not in MEDIA_TYPES:
        raise UnsupportedFormat(
            "Files of this media type are not read.",
            value=media_type,
            limit=[*MEDIA_TYPES, UNNAMED_MEDIA_TYPE],
            hint=f"Send one of {', '.join(MEDIA_TYPES)} as Content-Type.",
        )
    return _OPENERS[MEDIA_TYPES[essence]](path, limits)


def open_path(path: str | Path, limits: FormatLimits | None = None) -> AbstractContextManager[OpenFile]:
    """A local file, its format told by its bytes and not by its name. Errors as in `open_file`."""
    path = Path(path)
    if not path.is_file():
        raise UnreadableFile("There is no such file.", value=path, hint="Check the path.")
    return open_file(path, None, limits or FormatLimits())


def read_layers(path: str | Path, limits: FormatLimits | None = None) -> list[tuple[str, Array]]:
    """All layers of a local file in memory: (name, array (n, dim)) in the dtype that the store would keep."""
    with open_path(path, limits) as file:
        return load_layers(file)


def load_layers(file: OpenFile) -> list[tuple[str, Array]]:
    """All layers of an open file in memory, as in `read_layers`."""
    arrays = [np.empty((layer.n, layer.dim), NUMPY_DTYPES[layer.dtype]) for layer in file.layers]
    filled = [0] * len(arrays)
    for index, rows in file.blocks():
        arrays[index][filled[index] : filled[index] + len(rows)] = rows
        filled[index] += len(rows)
    return [(layer.name, array) for layer, array in zip(file.layers, arrays, strict=True)]


def sniff(path: Path) -> str:
    """The format's name, by the first bytes. Raises UnreadableFile (empty), UnsupportedFormat."""
    with path.open("rb") as file:
        head = file.read(_SNIFFED_BYTES)
    if not head:
        raise UnreadableFile("The file is empty.", value="0 bytes")
    for magic, name in _MAGICS.items():
        if head.startswith(magic):
            return name
    # The eight bytes of a header's length hold zeros, which no JSON does.
    if head[8:9] == b"{" and b"\0" in head[:8]:
        return "safetensors"
    if head.lstrip()[:1] in (b"{", b"["):
        return "json"
    raise UnsupportedFormat(
        "The file is none of the formats that are read: npy, npz, safetensors, JSON, Parquet, Arrow.",
        value=head[:16],
        hint="Save it with numpy.save. Pickles (.pkl, .pt, .joblib) can run code and are never read.",
    )
