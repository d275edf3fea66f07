"""Becomes another program that dies with its parent: `python tether.py PARENT_PID PROGRAM ARGUMENT...`.

Run as a script in a bare interpreter, so it imports nothing of the project. A `preexec_fn` would do the same
between fork and exec, where Python may deadlock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
#: sysexits.h: the surroundings are not as they should be.
ORPHANED = 71


def main() -> None:
    """Tie this process to its parent, undo what the parent's signal handling left behind, and become the program."""
    parent, program, *arguments = sys.argv[1:]
    _die_with_parent()
    if os.getppid() != int(parent):  # it died before the kernel knew of the tie
        sys.exit(ORPHANED)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execv(program, [program, *arguments])  # noqa: S606 -- becoming another program is what this file is for


def _die_with_parent() -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux has it
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
