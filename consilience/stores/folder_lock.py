"""The lock of a data folder: nothing is removed between the first blob of a set and its record."""

import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


def an_upload(root: Path) -> AbstractContextManager[bool]:
    """The time from the first blob of a set to its record; any number at once, in any process."""
    return _locked(root, fcntl.LOCK_SH)


def no_uploads(root: Path) -> AbstractContextManager[bool]:
    """A time without an upload between its first blob and its record, in any process; False where one is under way."""
    return _locked(root, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _locked(root: Path, how: int) -> Iterator[bool]:
    """A lock among all processes, which the system frees when one dies; False where it cannot be had."""
    with (root / "layers.lock").open("a") as file:
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            yield False
        else:
            yield True
