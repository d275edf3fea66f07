"""Tables as bytes, for the tests of several packages."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

KINDS = ("parquet", "arrow-file", "arrow-stream")
MEDIA_TYPES = {
    "parquet": "application/vnd.apache.parquet",
    "arrow-file": "application/vnd.apache.arrow.file",
    "arrow-stream": "application/vnd.apache.arrow.stream",
}


def vectors(array: np.ndarray[Any, Any]) -> pa.Array:
    """Rows (n, d) as lists of fixed size."""
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def lists(rows: list[Any], kind: pa.DataType | None = None) -> pa.Array:
    """Rows as lists of variable size."""
    return pa.array(rows, pa.list_(kind or pa.float32()))


def write(kind: str, table: pa.Table, rows: int | None = None, **options: Any) -> bytes:
    """The bytes of a table with row groups or batches of `rows` rows."""
    sink = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, sink, row_group_size=rows or len(table) or 1, **options)
        return sink.getvalue()
    opened = ipc.new_file if kind == "arrow-file" else ipc.new_stream
    with opened(sink, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()
