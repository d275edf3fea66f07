"""Arrow's IPC files and streams, read batch by batch out of the mapped file.

Unlike Parquet's, these bytes are used as they lie there: every batch is validated before it is touched.
"""

import mmap
from collections.abc import Iterator

import pyarrow as pa
from pyarrow import ipc

from consilience.errors import TooLarge, UnreadableFile

#: A file is a stream behind its mark, and a footer. Read as a stream nothing is copied, and columns can be chosen.
_STREAM_START = 8


class ArrowFile:
    """An IPC file in memory.

    Parameters
    ----------
    data : mmap
        The file.
    unpacked_limit : int
        Not needed: its batches name their rows before they are unpacked.
    """

    def __init__(self, data: mmap.mmap, unpacked_limit: int) -> None:  # noqa: ARG002 - all tables are made alike
        self._buffer = pa.py_buffer(data)
        file = ipc.open_file(self._buffer)
        self.schema, self._n = file.schema, int(file.count_rows())

    def count(self, index: int) -> int:  # noqa: ARG002 - the footer knows
        """By the footer, and the headers of the batches that it names."""
        return self._n

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """A column in pieces of at most so many rows."""
        stream = ipc.open_stream(pa.BufferReader(self._buffer.slice(_STREAM_START)), options=_options(index))
        done = 0
        for batch in stream:
            yield from _pieces(batch, self.schema.field(index), rows)
            done += batch.num_rows
            if done >= self._n:  # some writers put no mark between the stream and the footer
                return


class ArrowStream:
    """An IPC stream in memory.

    Parameters
    ----------
    data : mmap
        The file.
    unpacked_limit : int
        Bytes that it may unpack to: how many rows it has is seen only when they are unpacked.
    """

    def __init__(self, data: mmap.mmap, unpacked_limit: int) -> None:
        self._buffer, self._unpacked_limit = pa.py_buffer(data), unpacked_limit
        self.schema = ipc.open_stream(pa.BufferReader(self._buffer)).schema

    def count(self, index: int) -> int:
        """By the batches, of which only this column is unpacked."""
        n = unpacked = 0
        for batch in self._batches(index):
            n, unpacked = n + batch.num_rows, unpacked + batch.nbytes
            if unpacked > self._unpacked_limit:
                raise TooLarge(
                    f"The stream unpacks to more than {self._unpacked_limit} bytes.",
                    value=f"more than {self._unpacked_limit} bytes",
                    limit=self._unpacked_limit,
                )
        return n

    def read(self, index: int, rows: int) -> Iterator[pa.Array]:
        """A column in pieces of at most so many rows."""
        for batch in self._batches(index):
            yield from _pieces(batch, self.schema.field(index), rows)

    def _batches(self, index: int) -> Iterator[pa.RecordBatch]:
        source = pa.BufferReader(self._buffer)
        yield from ipc.open_stream(source, options=_options(index))
        if source.tell() != self._buffer.size:
            raise UnreadableFile(
                "The stream ends before the file does.",
                value=f"{source.tell()} of {self._buffer.size} bytes",
                hint="Send one stream, with nothing behind it.",
            )


def _options(index: int) -> ipc.IpcReadOptions:
    return ipc.IpcReadOptions(use_threads=False, included_fields=[index])


def _pieces(batch: pa.RecordBatch, field: pa.Field, rows: int) -> Iterator[pa.Array]:
    batch.validate(full=True)
    if batch.schema.names != [field.name] or batch.schema.field(0).type != field.type:
        raise UnreadableFile("The batches have other columns than the table.", value=batch.schema.names)
    column = batch.column(0)
    for start in range(0, len(column), rows):
        yield column.slice(start, rows)
