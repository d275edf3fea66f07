"""Records of plain values as CSV or Parquet files; a separate process writes Parquet, because it needs pyarrow."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from consilience.errors import MissingExtra, Unavailable

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
_PROGRAM = "consilience.formats.tables.parquet_writer"
#: Seconds for the process to load pyarrow and write some megabytes.
_TIMEOUT_S = 60.0
#: Names of the column types in the JSON that is sent to the process.
_TYPE_NAMES = {str: "string", float: "float64", int: "int64"}


def write_csv(columns: Mapping[str, type], records: Iterable[Mapping[str, object]]) -> bytes:
    """Return records as CSV in UTF-8 with a header line; missing values are empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def write_parquet(columns: Mapping[str, type], records: Iterable[Mapping[str, object]]) -> bytes:
    """Return records as one Parquet file; missing values are null.

    Parameters
    ----------
    columns : mapping of name to str, float or int

    Raises
    ------
    MissingExtra
        pyarrow is not installed.
    Unavailable
        The process that writes the file failed.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtra(
            "Writing Parquet needs pyarrow, which is not installed.",
            value="pyarrow",
            hint="Run: pip install 'consilience[parquet]', or choose CSV.",
        )
    rows = list(records)
    table = {
        name: {"kind": _TYPE_NAMES[kind], "values": [row.get(name) for row in rows]} for name, kind in columns.items()
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own module, its input is data
            [sys.executable, "-m", _PROGRAM],
            input=json.dumps(table).encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable("The process that writes Parquet failed.", value=error, hint="Choose CSV.") from error
    return done.stdout
