"""Operations on files that never leave partial files after a crash, on a full disk or with concurrent writers."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from consilience.errors import StorageFull, Unavailable

#: Errors that mean "full": of the disk, of the quota, of the file size limit of the process.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WRITE = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


@contextmanager
def translate_storage_errors() -> Iterator[None]:
    """Raise errors of the operating system as StorageFull or Unavailable."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                "The disk of the store is full.", value=error.strerror, hint="Delete sets that are no longer needed."
            ) from error
        raise Unavailable(f"The blob store cannot be accessed: {error.strerror}.", value=error.filename) from error


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, accessible to this user only."""
    if not folder.exists():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def create(path: Path) -> None:
    """Create an empty file, accessible to this user only. It must not exist."""
    os.close(os.open(path, _WRITE | os.O_CREAT | os.O_EXCL, 0o600))


def append(path: Path, data: bytes | memoryview) -> None:
    """Append bytes to an existing file. A file that was deleted meanwhile is not created again."""
    descriptor = os.open(path, _WRITE)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all bytes, in as many calls as needed."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_all_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all bytes at this offset, in as many calls as needed."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(draft: Path, target: Path) -> None:
    """Move a synced draft to its address: completely or not at all, even after a power failure."""
    if not target.parent.exists():
        target.parent.mkdir(mode=0o700, exist_ok=True)
        sync(target.parent.parent)
    draft.replace(target)
    sync(target.parent)


def refresh(path: Path, size: int) -> bool:
    """Return True if the file exists with this size. Then set its time to now, so that `remove_old` keeps it."""
    with suppress(FileNotFoundError), _locked(path, fcntl.LOCK_SH) as descriptor:
        os.utime(descriptor)
        status = os.fstat(descriptor)
        return status.st_size == size and status.st_nlink > 0
    return False


def remove_old(path: Path, age_s: float) -> bool:
    """Delete a file that was not written or refreshed for `age_s` seconds. Return True if it was deleted."""
    with suppress(FileNotFoundError), _locked(path, fcntl.LOCK_EX) as descriptor:
        if time.time() - os.fstat(descriptor).st_mtime >= age_s:
            path.unlink()
            return True
    return False


@contextmanager
def claim_file(path: Path, wait: Callable[[], None]) -> Iterator[int]:
    """Open and lock the draft at `path`, empty or as a killed process left it. Afterwards it is deleted unless it was renamed.

    The lock holds for all processes on all hosts that share the folder, and the kernel releases it if this process dies.
    `wait` is called repeatedly while another process holds the lock. Raises OSError.
    """
    while True:
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not try_lock(descriptor):
                wait()
            if is_at(descriptor, path):
                try:
                    yield descriptor
                finally:
                    discard(descriptor, path)
                return
            # The previous owner has renamed or deleted the file: this lock is on a file without a name.
        finally:
            os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Try to lock a file exclusively. Return True if it is locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Return True if the open file is the one at `path`."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def discard(descriptor: int, path: Path) -> None:
    """Delete a locked file if it is still at `path`. A failure is ignored, since a later sweep tries again."""
    with suppress(OSError):
        if is_at(descriptor, path):
            path.unlink()


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[int]:
    # Opened for writing too, since NFS needs that for an exclusive lock.
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)


def upload_lock(root: Path) -> AbstractContextManager[bool]:
    """Lock held from the first blob of an upload to its record. Any number of uploads may hold it at once."""
    return _locked_layers(root, fcntl.LOCK_SH)


def exclusive_upload_lock(root: Path) -> AbstractContextManager[bool]:
    """Lock that excludes `upload_lock` in all processes. Yields False if an upload is in progress."""
    return _locked_layers(root, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _locked_layers(root: Path, operation: int) -> Iterator[bool]:
    """Hold a lock across processes, which the system releases if this process dies. Yield False if it is not available."""
    with (root / "layers.lock").open("a") as file:
        try:
            fcntl.flock(file, operation)
        except BlockingIOError:
            yield False
        else:
            yield True
