"""Privileges and memory of the process that reads tables, and the errors when a file makes it fail."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from consilience.errors import ConsilienceError, TooLarge, Unavailable, UnreadableFile
from consilience.formats.files import open_path, read_layers
from tests.formats.tables.bombs import BOMBS
from tests.formats.tables.table_files import KINDS, vectors, write

ROWS = np.random.default_rng(0).standard_normal((40_000, 64)).astype("f4")
ZEROS = [0.0] * 20_000_000
SANDBOXED = """
import socket, sys
from pathlib import Path
from consilience.formats.sandbox import restrict_for_file
restrict_for_file(0, 0)
for attempt in ATTEMPTS:
    try:
        attempt()
    except (OSError, MemoryError) as error:
        print(type(error).__name__)
"""
ATTEMPTS = {
    "open a file": ("lambda: open('/etc/passwd')", "OSError"),
    "make a file": ("lambda: open('made', 'w')", "OSError"),
    "open a socket": ("lambda: socket.socket()", "OSError"),
    "start a program": ("lambda: __import__('subprocess').run(['true'])", "OSError"),
    "take a gigabyte": ("lambda: bytes(2**30)", "MemoryError"),
}


def children() -> list[psutil.Process]:
    """Processes that read tables, without other children such as the servers of other tests."""
    return [child for child in psutil.Process().children() if "consilience.formats.tables.child" in child.cmdline()]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table"
    path.write_bytes(write("parquet", pa.table({"x": vectors(ROWS)}), 5000))
    return path


@pytest.mark.parametrize("what", ATTEMPTS)
def test_a_sandboxed_process_cannot(what: str, tmp_path: Path) -> None:
    attempt, error = ATTEMPTS[what]
    command = [sys.executable, "-c", SANDBOXED.replace("ATTEMPTS", f"[{attempt}]")]

    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert ran.stdout == f"{error}\n", ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sandboxed_process_that_never_ends_is_killed() -> None:
    command = [
        sys.executable,
        "-c",
        SANDBOXED.replace("for attempt in ATTEMPTS:", "while True: pass\nfor attempt in ():"),
    ]
    started = time.monotonic()

    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGXCPU
    assert time.monotonic() - started < 60


def test_the_process_gets_no_secret_from_the_environment(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_DATABASE_URL", "postgresql://user:password@host/name")
    with open_path(table):
        (child,) = children()
        assert not [name for name in child.environ() if name.startswith("CONSILIENCE")]
    assert children() == []


def test_no_process_is_left_when_the_caller_gives_up(table: Path) -> None:
    def fail() -> None:
        with open_path(table) as file:
            next(file.blocks())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert children() == []


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (signal.SIGSEGV, UnreadableFile, "made the process that reads it crash"),
        (signal.SIGBUS, UnreadableFile, "made the process that reads it crash"),
        (signal.SIGABRT, UnreadableFile, "made the process that reads it crash"),
        (signal.SIGKILL, TooLarge, "too much memory"),
        (signal.SIGXCPU, TooLarge, "too much processor time"),
    ],
)
def test_a_crash_of_the_process_is_an_error_about_the_file(
    table: Path, number: signal.Signals, error: type[ConsilienceError], message: str
) -> None:
    with open_path(table) as file:
        blocks = file.blocks()
        next(blocks)
        children()[0].send_signal(number)
        with pytest.raises(error, match=message):
            list(blocks)
    assert children() == []


def test_a_process_that_cannot_start_is_not_an_error_about_the_file(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Unavailable, match="cannot be started"):
        read_layers(table)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable, match="did not start"):
        read_layers(table)


MEASURED = """
import resource, sys, time
from consilience.formats.files import open_path
started = time.monotonic()
try:
    with open_path(sys.argv[1]) as file:
        print(sum(len(rows) for _, rows in file.blocks()))
except Exception as error:
    print(type(error).__name__)
print(time.monotonic() - started)
for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
    print(resource.getrusage(who).ru_maxrss)
"""


def measure(path: Path) -> tuple[str, float, int, int]:
    """Return the outcome of reading the file, the seconds, and the kilobytes of the caller and of its child process."""
    # A new program's peak starts at that of its parent: the shell is small, unlike this process.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", MEASURED, str(path)]
    outcome, seconds, *peaks = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    print(path.name, outcome, seconds, *peaks)  # noqa: T201 - shown with -s
    return outcome, float(seconds), int(peaks[0]), int(peaks[1])


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_refused_quickly_and_in_little_memory(tmp_path: Path, name: str) -> None:
    make, errors = BOMBS[name]
    path = tmp_path / name
    path.write_bytes(make())
    assert path.stat().st_size < 4_000_000

    outcome, seconds, ours, theirs = measure(path)

    assert outcome in {kind.__name__ for kind in errors}
    assert seconds < 10
    assert max(ours, theirs) < 200_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_table_is_read_in_little_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    array = np.random.default_rng(0).standard_normal((100_000, 512), np.float32)
    path.write_bytes(write(kind, pa.table({"x": vectors(array)}), 100_000))

    outcome, _, ours, theirs = measure(path)

    assert outcome == "100000"
    assert max(ours, theirs) < 200_000
