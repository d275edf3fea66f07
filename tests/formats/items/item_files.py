"""Small, valid files of items, which tests modify."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
from PIL import Image
from pyarrow import parquet

ITEMS = [
    {"id": "a", "text": "a red square", "code": "square(red)"},
    {"id": "b", "text": "ein blauer Kreis: ●", "code": "circle(blue)"},
    {"id": "c", "text": "nothing at all", "code": "pass"},
]


def jsonl(items: Sequence[object]) -> bytes:
    """JSON lines: one object per line."""
    return "".join(f"{json.dumps(item, ensure_ascii=False)}\n" for item in items).encode()


def encoded_image(
    colour: str = "red", size: tuple[int, int] = (8, 6), kind: str = "PNG", mode: Literal["RGB", "L", "1"] = "RGB"
) -> bytes:
    """An encoded image of one colour."""
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, kind)
    return file.getvalue()


def animation(kind: str = "PNG") -> bytes:
    """An animation of two frames."""
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


def table(columns: Mapping[str, Any]) -> bytes:
    """A Parquet file with these columns."""
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(dict(columns)), sink)
    return bytes(sink.getvalue())


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip archive of these files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive of these files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def image_archive(extra: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """The files of an archive with three images."""
    pictures = {
        "pictures/1.png": encoded_image("red"),
        "pictures/2.jpg": encoded_image("blue", kind="JPEG"),
        "pictures/3.webp": encoded_image("green", kind="WEBP"),
    }
    items = [{"id": f"p{place}", "image": name, "text": f"Picture {place}"} for place, name in enumerate(pictures)]
    return {"manifest.jsonl": jsonl(items), **pictures, **(extra or {})}
