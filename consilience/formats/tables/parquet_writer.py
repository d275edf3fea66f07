"""Program that writes a table: columns as JSON on standard input, Parquet on standard output."""

import json
import sys

import pyarrow as pa
from pyarrow import parquet


def main() -> None:
    """Convert standard input to Parquet on standard output."""
    columns = json.load(sys.stdin)
    table = pa.table(
        {
            name: pa.array(column["values"], type=pa.type_for_alias(column["kind"]), from_pandas=False)
            for name, column in columns.items()
        }
    )
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    sys.stdout.buffer.write(sink.getvalue().to_pybytes())


if __name__ == "__main__":
    main()
