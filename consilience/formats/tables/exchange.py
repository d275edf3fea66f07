"""The process that reads a table, seen from outside: questions go in, pieces of bytes come out.

An answer is any number of pieces, an empty one, and a JSON document: null, or the error that ended it.
"""

import json
from collections.abc import Generator
from importlib.util import find_spec
from typing import Any, Self

from consilience import errors
from consilience.errors import ConsilienceError, MissingExtra, UnreadableFile
from consilience.formats.confined import ConfinedProcess

_PROGRAM = "consilience.formats.tables.process"
_VARIABLES = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
_ERRORS: dict[str, type[ConsilienceError]] = {
    kind.code: kind
    for kind in (
        errors.BadItem,
        errors.InvalidRequest,
        errors.InvalidShape,
        errors.NonFiniteValues,
        errors.TooLarge,
        errors.UnknownView,
        errors.UnreadableFile,
        errors.UnsupportedDtype,
        errors.UnsupportedFormat,
    )
}


class TableReader:
    """A process that reads one table; started when it is first asked, gone when the context ends.

    Parameters
    ----------
    kind : str
        ``parquet``, ``arrow-file`` or ``arrow-stream``.
    descriptor : int
        The open file.
    unpacked_limit : int
        Bytes that the file may hold once unpacked.
    """

    def __init__(self, kind: str, descriptor: int, unpacked_limit: int) -> None:
        self._words = (str(descriptor), kind, str(unpacked_limit))
        self._descriptor = descriptor
        self._process: ConfinedProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the process, whatever it is doing."""
        if self._process is not None:
            process, self._process = self._process, None
            process.close()

    def ask(self, **question: object) -> Generator[bytes, None, None]:
        """The pieces of the answer.

        Raises the error that the process found in the file, UnreadableFile where the file made it crash,
        TooLarge where it took too much memory or time, Unavailable where it cannot be started, MissingExtra.
        """
        answered = False
        try:
            process = self._process = self._process or self._start()
            process.send(json.dumps(question).encode())
            while piece := process.receive():
                yield piece
            error = json.loads(process.receive())
            answered = True
        finally:
            if not answered:  # nobody waits for the rest; the next question gets a new process
                self.close()
        if error is not None:
            raise _revive(error)

    def _start(self) -> ConfinedProcess:
        if find_spec("pyarrow") is None:
            raise MissingExtra(
                "Parquet and Arrow need pyarrow.", value="pyarrow", hint="Run: pip install 'consilience[parquet]'."
            )
        return ConfinedProcess.start(_PROGRAM, self._words, descriptors=(self._descriptor,), variables=_VARIABLES)


def _revive(document: dict[str, Any]) -> ConsilienceError:
    """The error that the other process described."""
    kind = _ERRORS.get(document.pop("code"), UnreadableFile)
    return kind(document.pop("detail"), **document)
