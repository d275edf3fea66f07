"""`consilience serve` as a real process, for the tests of several rooms."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

COMMAND = Path(sys.executable).with_name("consilience")
START_TIMEOUT_S = 30


@dataclass(frozen=True)
class Serve:
    """A running `consilience serve`."""

    process: subprocess.Popen[str]
    url: str
    data_dir: Path

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, word: str) -> psutil.Process:
        """The child whose command line ends with, or whose program is called, `word`."""
        return next(
            child
            for child in psutil.Process(self.process.pid).children()
            if child.cmdline()[-1:] == [word] or Path(child.exe()).name == word
        )


def start(*words: str, env: dict[str, str] | None = None, data_dir: Path) -> subprocess.Popen[str]:
    """`consilience serve` on a free port; its messages go to serve.log beside the data."""
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("CONSILIENCE_")}
    with (data_dir.parent / "serve.log").open("a") as log:
        return subprocess.Popen(
            [str(COMMAND), "serve", "--port", "0", "--data-dir", str(data_dir), *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**surroundings, **(env or {})},
        )


@contextmanager
def serve(*words: str, env: dict[str, str] | None = None, data_dir: Path | None = None) -> Iterator[Serve]:
    """A service that is ready; stopped, and proved to be gone, at the end."""
    with tempfile.TemporaryDirectory(prefix="serve-") as folder:
        place = data_dir or Path(folder) / "data"
        process = start(*words, env=env, data_dir=place)
        try:
            yield Serve(process, read_url(process, place), place)
        finally:
            process.terminate()
            process.communicate(timeout=30)


def read_url(process: subprocess.Popen[str], data_dir: Path) -> str:
    for line in process.stdout or ():
        if line.strip().startswith("API"):
            return line.split()[1].removesuffix("/v1")
    raise AssertionError((data_dir.parent / "serve.log").read_text())


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def kill(process: psutil.Process) -> None:
    process.send_signal(signal.SIGKILL)
