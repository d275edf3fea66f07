"""A real Dask cluster of processes on this machine, over TLS where openssl can make certificates."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consilience.errors import UnknownLayer
from consilience.execution.addresses import Certificate, ClusterAddress

ROOT = Path(__file__).parents[2]
OPENSSL = shutil.which("openssl")


def make_certificate(folder: Path) -> Certificate:
    """One that vouches for itself: whoever holds its key is let in, nobody else."""
    folder.mkdir()
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=cluster"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([OPENSSL or "openssl", *words.split(), *files], check=True, capture_output=True)
    return Certificate(certificate, certificate, key)


class Cluster:
    """A scheduler, and workers of one thread each."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self._folder, self._settings = folder, settings
        self._processes: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self._certificate = make_certificate(folder / "certificate") if OPENSSL else None
        self._scheme = "tls" if OPENSSL else "tcp"
        self._file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard", "--no-show")
        wait_for(lambda: self._file.exists() and bool(self._file.read_text()))
        self.address = ClusterAddress(json.loads(self._file.read_text())["address"], self._certificate)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One more process for parts."""
        worker = self._start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        self.workers.append(worker)
        return worker

    def log(self) -> str:
        """What all of them said."""
        return (self._folder / "log").read_text()

    def close(self) -> None:
        """End them all."""
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        # Where the system can do it: killed with this process, also where that dies by kill -9.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        command = [*tied, sys.executable, "-m", f"distributed.cli.dask_{what}", *options]
        command += ["--host", f"{self._scheme}://127.0.0.1", "--scheduler-file", str(self._file)]
        if self._certificate:
            shown = self._certificate
            command += ["--tls-ca-file", str(shown.ca_file), "--tls-cert", str(shown.cert_file)]
            command += ["--tls-key", str(shown.key_file)]
        # All import at once what the first part would have to wait for.
        command += ["--preload", "consilience.execution.cluster"]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | threads | self._settings
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, cwd=self._folder, stdout=log, stderr=log)
        self._processes.append(process)
        return process


@dataclass(frozen=True)
class Slow:
    """A part that leaves a line where it begins and where it ends."""

    log: Path
    seconds: float


def work_slowly(part: Slow) -> int:
    """The process that did it."""
    for word, seconds in (("begun", part.seconds), ("ended", 0.0)):
        with part.log.open("a") as log:
            log.write(f"{word}\n")
        time.sleep(seconds)
    return os.getpid()


def refuse(layer: str) -> None:
    """As a part finds something wrong."""
    raise UnknownLayer("There is no such layer.", value=layer, hint="Choose another.")


def die(status: int) -> None:
    """As the system stops a process for its memory; 0 does nothing."""
    if status:
        os._exit(status)


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Look again and again until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
