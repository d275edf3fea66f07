"""Records of plain values as files: CSV here, Parquet by a process that has its library."""

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
#: It loads its library and writes some megabytes.
_TIMEOUT_S = 60.0
#: How each kind of column is called on the way to the process.
_TYPE_NAMES = {str: "string", float: "float64", int: "int64"}


def write_csv(columns: Mapping[str, type], records: Iterable[Mapping[str, object]]) -> bytes:
    """Records as CSV, in UTF-8, with a line of names; what a record lacks is empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def write_parquet(columns: Mapping[str, type], records: Iterable[Mapping[str, object]]) -> bytes:
    """Records as one Parquet file; what a record lacks is null.

    Parameters
    ----------
    columns : mapping of name to str, float or int

    Raises
    ------
    MissingExtra
        The library of Parquet is not installed.
    Unavailable
        Its process did not do it.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtra(
            "Parquet needs pyarrow.",
            value="pyarrow",
            hint="Run: pip install 'consilience[parquet]', or ask for CSV.",
        )
    held = list(records)
    table = {
        name: {"kind": _TYPE_NAMES[kind], "values": [each.get(name) for each in held]} for name, kind in columns.items()
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
        raise Unavailable("The process that writes Parquet failed.", value=error, hint="Ask for CSV.") from error
    return done.stdout
