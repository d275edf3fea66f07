"""Files that are there as a whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import BinaryIO

from consilience.errors import InputError, StorageFull


@contextmanager
def draft(path: Path) -> Iterator[BinaryIO]:
    """A file to be written, which takes its place when the block succeeds; otherwise what was there before stays.

    Raises
    ------
    StorageFull, InputError (the path cannot be written)
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(path)
    except OSError as error:
        refusal = StorageFull if error.errno == ENOSPC else InputError
        raise refusal(f"{path} cannot be written: {error.strerror}.", value=path) from error
    finally:
        unfinished.unlink(missing_ok=True)
