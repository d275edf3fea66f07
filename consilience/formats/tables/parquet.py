"""Parquet, read column by column and page by page."""

import mmap
from collections.abc import Iterator

import pyarrow as pa
from pyarrow.parquet import ParquetFile

from consilience.errors import UnsupportedFormat

#: What the metadata may hold; pyarrow's own limits are a hundred times as high.
STRING_LIMIT_BYTES = 4 * 1024 * 1024
CONTAINER_LIMIT = 100_000
DEPTH_LIMIT = 64


class ParquetTable:
    """A Parquet file in memory.

    Parameters
    ----------
    data : mmap
        The file.
    unpacked_limit : int
        Not needed: the number of rows is known before anything is unpacked.
    """

    def __init__(self, data: mmap.mmap, unpacked_limit: int) -> None:  # noqa: ARG002 - all tables are made alike
        self._file = ParquetFile(
            pa.BufferReader(pa.py_buffer(data)),
            thrift_string_size_limit=STRING_LIMIT_BYTES,
            thrift_container_size_limit=CONTAINER_LIMIT,
            schema_depth_limit=DEPTH_LIMIT,
            pre_buffer=False,
            page_checksum_verification=True,
            arrow_extensions_enabled=False,
        )
        self.schema = self._file.schema_arrow

    def count(self, index: int) -> int:  # noqa: ARG002 - the metadata knows
        """By the metadata."""
        return int(self._file.metadata.num_rows)

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """A column in pieces of at most so many rows."""
        field = self.schema.field(index)
        for batch in self._file.iter_batches(rows, columns=[field.name], use_threads=False):
            # A name is also asked for as the start of a path: `a` finds `a.b` too.
            if batch.schema.names != [field.name] or batch.schema.field(0).type != field.type:
                raise UnsupportedFormat("Columns have names that cannot be told apart.", value=batch.schema.names)
            yield batch.column(0)
