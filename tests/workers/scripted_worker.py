"""A real worker whose jobs do what their request says: started as a process of its own by the tests."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from consilience.contract.jobs import Job
from consilience.contract.scores import Pairing, PreparationRecord, ScoreDocument, SideSummary
from consilience.errors import UnknownLayer
from consilience.stores.database import Database
from workers import worker
from workers.__main__ import configure_logging
from workers.attempts import ReportProgress
from workers.settings import read_settings


def do(job: Job, report: ReportProgress) -> ScoreDocument:
    """Leave a line with our process id, then do what is asked."""
    request = job.request
    log = Path(request["log"])
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    first_time = len(log.read_text().splitlines()) == 1
    if first_time or not request.get("once"):
        globals()[request["do"]](report, **request.get("options", {}))
    return document()


def nothing(report: ReportProgress) -> None:
    """Succeed at once."""
    report("scoring", 1, 1)


def sleep(report: ReportProgress, seconds: float) -> None:
    """Be busy, and say so."""
    for step in range(100):
        report("scoring", step, 100)
        time.sleep(seconds / 100)


def sleep_in_native_code(_report: ReportProgress, seconds: int) -> None:
    """Hold the interpreter's lock: no Python signal handler and no thread would get a turn."""
    ctypes.PyDLL(None).usleep(seconds * 1_000_000)


def die(_report: ReportProgress, by: str) -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.Signals[by])


def run_out_of_memory(_report: ReportProgress) -> None:
    """As an allocation fails."""
    raise MemoryError


def refuse(_report: ReportProgress) -> None:
    """As a request turns out to be wrong."""
    raise UnknownLayer("There is no layer 7.", value="7", hint="Choose 0 to 6.")


def break_down(_report: ReportProgress) -> None:
    """A fault of ours."""
    raise RuntimeError("secret detail")


def leave_a_thread(_report: ReportProgress) -> None:
    """End with something still running."""
    import threading

    threading.Thread(target=time.sleep, args=(60,)).start()


def document() -> ScoreDocument:
    """A score that says which process made it."""
    side: dict[str, Any] = {"id": None, "name": "x", "n": 4, "layers": ("0",)}
    return ScoreDocument(
        a=SideSummary(**side),
        b=SideSummary(**side),
        n=4,
        pairing=Pairing(matched=4),
        preparation=PreparationRecord(profile="l2", normalise="l2"),
        scores=(),
        seed=0,
        versions={"pid": str(os.getpid())},
        timings_s={},
    )


if __name__ == "__main__":
    configure_logging()
    settings = read_settings()
    sys.exit(worker.serve(settings, Database(settings.database), do))
