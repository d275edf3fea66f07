"""A program started by the script dies with its parent."""

import os
import signal
import subprocess
import sys

import psutil

from consilience.standalone import die_with_parent
from tests.serving import gone, until

BARE = [sys.executable, "-I", "-S", die_with_parent.__file__]


def test_kill_9_of_the_parent_kills_the_program() -> None:
    program = f"""
import os, subprocess, sys, time
child = subprocess.Popen([*{BARE!r}, str(os.getpid()), "/bin/sleep", "600"])
print(child.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        until(lambda: child.name() == "sleep")
        parent.kill()
    until(lambda: gone([child]), timeout_s=2)


def test_a_parent_that_died_early_is_detected() -> None:
    ended = subprocess.run([*BARE, "999999999", "/bin/sleep", "600"], check=False)
    assert ended.returncode == die_with_parent.ORPHANED


def test_the_program_receives_signals_although_the_parent_holds_them() -> None:
    show = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])
    try:
        command = [*BARE, str(os.getpid()), sys.executable, "-c", show]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert output.strip() == "set()"
