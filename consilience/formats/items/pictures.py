"""Pictures, decoded by a process of their own to see whether they can be."""

import json
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Self

from consilience.errors import InputError, MissingExtra, TooLarge
from consilience.formats.confined import ConfinedProcess

_PROGRAM = "consilience.formats.items.picture_process"
#: Seconds for one picture.
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Picture:
    """What is known of a picture."""

    width: int = 0
    height: int = 0
    fault: str | None = None
    """Why it cannot be used."""

    @property
    def pixels(self) -> int:
        """All of them."""
        return self.width * self.height


class PictureReader:
    """A process that decodes pictures, one after the other; started for the first one, gone when the context ends.

    Parameters
    ----------
    pixels_limit : int
        Larger pictures are not decoded: their size alone is told.
    """

    def __init__(self, pixels_limit: int) -> None:
        self._pixels_limit = pixels_limit
        self._process: ConfinedProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def examine(self, data: bytes) -> Picture:
        """What decoding it shows, be it the death of the process. Raises MissingExtra, Unavailable."""
        process = self._process = self._process or self._start()
        try:
            process.send(data)
            return Picture(**json.loads(process.receive()))
        except TooLarge:
            self._stop()
            return Picture(fault="took too much time or memory to decode")
        except InputError:
            self._stop()
            return Picture(fault="made its decoder crash")

    def _start(self) -> ConfinedProcess:
        if find_spec("PIL") is None:
            raise MissingExtra("Pictures need Pillow.", value="pillow", hint="Run: pip install 'consilience[images]'.")
        return ConfinedProcess.start(_PROGRAM, [str(self._pixels_limit)], patience_s=PATIENCE_S)

    def _stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            with suppress(OSError):
                process.close()
