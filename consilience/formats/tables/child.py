"""The process that reads a table: `python -m consilience.formats.tables.child CHANNEL FILE KIND UNPACKED_BYTES`."""

import sys
from multiprocessing.connection import Connection

from consilience.formats.sandbox import map_file, restrict_for_file


def main() -> None:
    """Load the library, give up every right, then answer questions until nobody asks any more."""
    channel, file, kind, unpacked = sys.argv[1:]
    sys.modules["numpy"] = None  # type: ignore[assignment] # "not installed": pyarrow does without, and is half as large
    from consilience.formats.tables.child_reader import serve_requests  # noqa: PLC0415 - only now: it imports pyarrow

    data = map_file(int(file))
    with Connection(int(channel)) as connection:
        restrict_for_file(len(data), int(unpacked))
        connection.send_bytes(b"ready")
        serve_requests(connection, kind, data, int(unpacked))


if __name__ == "__main__":
    main()
