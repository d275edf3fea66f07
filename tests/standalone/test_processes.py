"""A child is started again: at once when it had been up, later and later when it had not."""

import time

import pytest

from consilience.standalone import processes as module
from consilience.standalone.processes import Child
from tests.serving import until


def test_a_program_that_dies_at_once_is_started_later_each_time() -> None:
    child = Child("It", ["/bin/false"], {})
    pauses = []
    for _ in range(3):
        child.start()
        endings: list[str] = []
        until(lambda endings=endings: bool(endings.append(child.reap() or "") or endings[-1]))
        assert endings[-1] == "exit status 1"
        died_at = time.monotonic()
        until(lambda: child.restart_due)
        pauses.append(time.monotonic() - died_at)
    assert child.failed_starts == 3
    assert pauses[0] < 0.1
    assert 0.2 < pauses[1] < pauses[2]


def test_a_program_that_had_been_up_is_due_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_UPTIME_S", 0.05)
    child = Child("It", ["/bin/sleep", "600"], {})
    child.start()
    time.sleep(0.1)
    child.kill()
    child.start()
    time.sleep(0.1)
    child.terminate()
    until(lambda: child.reap() == "killed by SIGTERM")
    assert child.restart_due
    assert child.failed_starts == 0


def test_killing_takes_what_the_program_started(tmp_path: object) -> None:
    import psutil

    child = Child("It", ["/bin/sh", "-c", "sleep 600 & sleep 600"], {})
    child.start()
    process = child._process
    assert process is not None
    until(lambda: len(psutil.Process(process.pid).children()) == 2)
    grandchildren = psutil.Process(process.pid).children()
    child.kill()
    until(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in grandchildren))
