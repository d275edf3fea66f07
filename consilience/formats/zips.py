"""What every reader of zips needs: a directory of bounded size, and one error for what zipfile and zlib raise."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consilience.errors import ConsilienceError, TooLarge, UnreadableFile


class BoundedFile(io.FileIO):
    """A file that refuses to give more than so much at once: a zip's directory has any size that it claims.

    Parameters
    ----------
    path : Path
    limit : int
        Bytes of one read: bounds the directory, and with it the number of files.
    """

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path)
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        """As FileIO; TooLarge over the limit."""
        remaining = os.fstat(self.fileno()).st_size - self.tell()
        wanted = remaining if size is None or size < 0 else min(size, remaining)
        if wanted > self._limit:
            raise TooLarge(
                f"The zip directory has {wanted} bytes, the limit is {self._limit}.", value=wanted, limit=self._limit
            )
        return super().read(wanted) or b""


@contextmanager
def zip_faults(where: str) -> Iterator[None]:
    """Of zipfile and zlib, which raise a dozen unrelated classes on damaged bytes."""
    try:
        yield
    except ConsilienceError:
        raise
    except Exception as error:
        raise UnreadableFile(
            f"{where} cannot be unpacked: {error}.", hint="The file is damaged: send it again."
        ) from error
