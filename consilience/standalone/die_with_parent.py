"""Execute a program that is killed when its parent dies: `python die_with_parent.py PARENT_PID PROGRAM ARGUMENT...`.

This script runs in a bare interpreter, so it imports nothing of the project. A `preexec_fn` would do the same between fork
and exec, where Python may deadlock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
#: Exit status if the parent is dead already (sysexits.h: operating system error).
ORPHANED = 71


def main() -> None:
    """Tie this process to its parent, reset its signal handling, and execute the program."""
    parent, program, *arguments = sys.argv[1:]
    _die_with_parent()
    if os.getppid() != int(parent):  # the parent died before the call above
        sys.exit(ORPHANED)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.execv(program, [program, *arguments])  # noqa: S606 -- the purpose of this script is to execute another program


def _die_with_parent() -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux has it
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
