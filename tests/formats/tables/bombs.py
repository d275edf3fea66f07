"""Decompression bombs: small files that unpack to a lot of data."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from consilience.errors import ConsilienceError, InvalidShape, TooLarge
from tests.formats.tables.table_files import vectors, write

ROWS = np.random.default_rng(0).standard_normal((40_000, 8)).astype("f4")


def ragged(lengths: list[int]) -> pa.Array:
    """Rows of zeros with these lengths."""
    offsets = pa.array(np.cumsum([0, *lengths], dtype="i4"))
    return pa.ListArray.from_arrays(offsets, pa.array(np.zeros(sum(lengths), "f4")))


def huge_row() -> bytes:
    """Four rows, of which one has twenty million zeros: a few bytes unpack to 80 MB."""
    return write("parquet", pa.table({"x": ragged([1, 1, 20_000_000, 1])}), compression="zstd", use_dictionary=False)


def huge_page() -> bytes:
    """A page of a column of lists whose first row is short."""
    rows = ragged([1, *[4_000_000] * 5])
    return write("parquet", pa.table({"x": rows}), compression="zstd", use_dictionary=False, data_page_size=2**30)


def huge_batch(codec: str) -> bytes:
    return write("arrow-file", pa.table({"x": ragged([1, *[20_000_000] * 3])}), compression=codec)


def huge_label() -> bytes:
    columns = {"id": pa.array(["y" * 30_000_000, "b", "c", "d"]), "x": vectors(np.ones((4, 3), "f4"))}
    return write("parquet", pa.table(columns), compression="zstd", use_dictionary=False)


def huge_dictionary() -> bytes:
    """A column with the same long word in every row, which the file contains once."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), pa.array(["y" * 100_000]))
    return write("arrow-file", pa.table({"group": words, "x": vectors(ROWS.repeat(2, axis=0)[:50_000])}))


def endless_stream() -> bytes:
    """Many batches of zeros."""
    return write("arrow-stream", pa.table({"x": vectors(np.zeros((1_000_000, 64), "f4"))}), 20_000, compression="zstd")


BOMBS: dict[str, tuple[Callable[[], bytes], tuple[type[ConsilienceError], ...]]] = {
    "a huge row": (huge_row, (TooLarge, InvalidShape)),
    "a huge page": (huge_page, (TooLarge, InvalidShape)),
    "a huge batch, lz4": (lambda: huge_batch("lz4"), (TooLarge,)),
    "a huge batch, zstd": (lambda: huge_batch("zstd"), (TooLarge,)),
    "a huge label": (huge_label, (TooLarge,)),
    "a huge dictionary": (huge_dictionary, (TooLarge,)),
    "an endless stream": (endless_stream, (TooLarge,)),
    "zeros by run length": (lambda: write("parquet", pa.table({"x": vectors(np.zeros((200_000, 64), "f4"))})), (TooLarge,)),
    "zeros, compressed": (
        lambda: write("arrow-file", pa.table({"x": vectors(np.zeros((200_000, 64), "f4"))}), compression="zstd"),
        (TooLarge,),
    ),
}  # fmt: skip
