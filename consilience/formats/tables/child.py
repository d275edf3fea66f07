"""Program that reads a table: `python -m consilience.formats.tables.child CHANNEL FILE KIND UNPACKED_BYTES`."""

import sys
from multiprocessing.connection import Connection

from consilience.formats.sandbox import map_file, restrict_for_file


def main() -> None:
    """Load pyarrow, drop all privileges, then serve requests until the channel closes."""
    channel, file, kind, unpacked = sys.argv[1:]
    sys.modules["numpy"] = None  # type: ignore[assignment] # makes pyarrow start without numpy, in half the memory
    from consilience.formats.tables.child_reader import serve_requests  # noqa: PLC0415 - only now: it imports pyarrow

    data = map_file(int(file))
    with Connection(int(channel)) as connection:
        restrict_for_file(len(data), int(unpacked))
        connection.send_bytes(b"ready")
        serve_requests(connection, kind, data, int(unpacked))


if __name__ == "__main__":
    main()
