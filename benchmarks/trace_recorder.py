"""Record which of our modules a process enters. `benchmarks.trace` copies this file as `sitecustomize.py` of each process.

Only the standard library is imported, since every traced process runs this before its own first line.
"""

import mmap
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

#: Name of the environment variable with the folder of the mark and the log; without it nothing is recorded.
FOLDER_VARIABLE = "TRACE_FOLDER"
PACKAGES = ("consilience.", "service.", "workers.")
#: Threads of the API process that work for no request.
BACKGROUND_THREADS = frozenset({"reconciler"})
IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


def install(folder: Path) -> None:
    """Write a line to `folder/log` for the first call into each of our modules, for each value of the mark but zero."""
    with (folder / "mark").open("r+b") as file:
        mark = mmap.mmap(file.fileno(), 1)
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    seen: set[tuple[int, int, str]] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        number = mark[0]
        if event != "call" or number == 0:
            return
        module = frame.f_globals.get("__name__")
        if not isinstance(module, str) or not module.startswith(PACKAGES):
            return
        key = (number, os.getpid(), module)
        if key in seen or threading.current_thread().name in BACKGROUND_THREADS or _is_importing(frame):
            return
        seen.add(key)
        program = sys.orig_argv[-1]
        os.write(log, f"{number} {time.monotonic_ns()} {program} {module}\n".encode())

    sys.setprofile(note)
    threading.setprofile(note)


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a call is part of an import, which happens once per process and not for a request."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False


if __name__ == "sitecustomize" and FOLDER_VARIABLE in os.environ:
    install(Path(os.environ[FOLDER_VARIABLE]))
