"""Files written so that a crash, a full disk or a second writer never leaves half of one."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from consilience.errors import StorageFull, Unavailable

#: No room: on the disk, in the quota, under the process's file size limit.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WRITE = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


@contextmanager
def storage_faults() -> Iterator[None]:
    """What the system says about the store's disk, as StorageFull or Unavailable."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                "The store has no room left.", value=error.strerror, hint="Delete sets that are no longer needed."
            ) from error
        raise Unavailable(f"The blob store does not answer: {error.strerror}.", value=error.filename) from error


def make_folder(folder: Path) -> None:
    """The folder and those above it, for this user alone where they are new."""
    if not folder.exists():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def create(path: Path) -> None:
    """An empty file, which must be new, for this user alone."""
    os.close(os.open(path, _WRITE | os.O_CREAT | os.O_EXCL, 0o600))


def append(path: Path, data: bytes | memoryview) -> None:
    """All the bytes at the end of a file that exists: one that was swept away meanwhile does not come back."""
    descriptor = os.open(path, _WRITE)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """All the bytes, in as many writes as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_all_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """All the bytes at this place, in as many writes as it takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def sync(path: Path) -> None:
    """A file's bytes, or a folder's entries, down to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(draft: Path, target: Path) -> None:
    """The draft, already synced, at its address: whole or not at all, also after a power loss."""
    if not target.parent.exists():
        target.parent.mkdir(mode=0o700, exist_ok=True)
        sync(target.parent.parent)
    draft.replace(target)
    sync(target.parent)


def refresh(path: Path, size: int) -> bool:
    """Whether the file is there with this size; if so, it counts as new, so that `remove_old` spares it."""
    with suppress(FileNotFoundError), _locked(path, fcntl.LOCK_SH) as descriptor:
        os.utime(descriptor)
        status = os.fstat(descriptor)
        return status.st_size == size and status.st_nlink > 0
    return False


def remove_old(path: Path, age_s: float) -> bool:
    """Removes a file that nobody wrote or refreshed for this long; whether it did."""
    with suppress(FileNotFoundError), _locked(path, fcntl.LOCK_EX) as descriptor:
        if time.time() - os.fstat(descriptor).st_mtime >= age_s:
            path.unlink()
            return True
    return False


@contextmanager
def claimed(path: Path, wait: Callable[[], None]) -> Iterator[int]:
    """The one draft of this name, empty or as a killed process left it; gone afterwards unless it was renamed.

    Nobody else has it meanwhile, in any process on any host that shares the folder. The kernel ends the claim where this
    process dies. `wait` is called again and again while another has the claim. Raises OSError.
    """
    while True:
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not try_lock(descriptor):
                wait()
            if stands_at(descriptor, path):
                try:
                    yield descriptor
                finally:
                    discard(descriptor, path)
                return
            # Whoever had it has renamed or removed it: the lock is on a file that nobody else will find.
        finally:
            os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Whether the file is now locked for this descriptor alone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def stands_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one at the path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def discard(descriptor: int, path: Path) -> None:
    """Removes the locked file, if it is still at the path; a later round tries again where that fails."""
    with suppress(OSError):
        if stands_at(descriptor, path):
            path.unlink()


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[int]:
    # For writing too: NFS gives an exclusive lock on nothing less.
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)


def an_upload(root: Path) -> AbstractContextManager[bool]:
    """The time from the first blob of a set to its record; any number at once, in any process."""
    return _locked_layers(root, fcntl.LOCK_SH)


def no_uploads(root: Path) -> AbstractContextManager[bool]:
    """A time without an upload between its first blob and its record, in any process; False where one is under way."""
    return _locked_layers(root, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _locked_layers(root: Path, how: int) -> Iterator[bool]:
    """A lock among all processes, which the system frees when one dies; False where it cannot be had."""
    with (root / "layers.lock").open("a") as file:
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            yield False
        else:
            yield True
