import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.workers.harness import is_alive, wait_until_dead
from workers.child import CHILD_OOM_SCORE, OOM_SCORE, ChildProcess, ProcessExit


def end_of(child: ChildProcess) -> ProcessExit:
    process_exit = child.wait(10)
    assert process_exit is not None
    return process_exit


def test_the_status_of_the_work_is_the_status_of_the_process() -> None:
    assert end_of(ChildProcess(lambda: 0)).status == 0
    assert str(end_of(ChildProcess(lambda: 7))) == "exit status 7"


def test_an_error_is_a_status_and_never_returns_into_the_worker(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise ValueError("boom")

    assert end_of(ChildProcess(fail)).status == 1
    assert "ValueError: boom" in "".join(capfd.readouterr())


def test_even_an_exit_ends_the_process() -> None:
    assert end_of(ChildProcess(lambda: sys.exit(0))).status == 1


def test_waiting_ends_in_time() -> None:
    child = ChildProcess(lambda: time.sleep(60) or 0)
    began = time.monotonic()
    assert child.wait(0.05) is None
    assert child.wait(-1) is None
    assert time.monotonic() - began < 1
    assert child.kill().status == -signal.SIGKILL


def test_a_kill_ends_all_processes_of_the_work() -> None:
    read_end, write_end = os.pipe()

    def work() -> int:
        child = subprocess.Popen(["sleep", "60"])
        os.write(write_end, str(child.pid).encode())
        time.sleep(60)
        return 0

    child = ChildProcess(work)
    grandchild = int(os.read(read_end, 10))
    assert str(child.kill()) == "SIGKILL"
    wait_until_dead(grandchild)
    os.close(read_end)
    os.close(write_end)


def test_a_kill_right_after_the_fork_does_not_hit_the_parent() -> None:
    for _ in range(20):
        assert ChildProcess(lambda: time.sleep(60) or 0).kill().status == -signal.SIGKILL


def test_a_kill_of_one_that_has_just_ended_is_its_end() -> None:
    child = ChildProcess(lambda: 0)
    time.sleep(0.1)
    assert child.kill().status == 0


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_is_left() -> None:
    before = count_descriptors()
    end_of(ChildProcess(lambda: 0))
    ChildProcess(lambda: time.sleep(60) or 0).kill()
    assert count_descriptors() == before


def test_the_child_process_dies_with_its_parent() -> None:
    code = """
import time
from workers.child import ChildProcess
print(ChildProcess(lambda: time.sleep(60) or 0).pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until_dead(child)


def test_random_numbers_differ_between_two_of_them() -> None:
    import random

    read_end, write_end = os.pipe()
    for _ in range(2):
        end_of(ChildProcess(lambda: os.write(write_end, f"{random.random()}\n".encode()) and 0))  # noqa: S311 - what is tested
    one, two = os.read(read_end, 100).split()
    assert one != two
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize(
    ("status", "oom_killed", "expected"), [(-9, True, True), (-9, False, False), (-11, True, False), (1, True, False)]
)
def test_only_a_sigkill_beside_a_memory_kill_counts_as_out_of_memory(
    status: int, oom_killed: bool, expected: bool
) -> None:
    assert ProcessExit(status=status, peak_bytes=1, oom_killed=oom_killed).out_of_memory is expected


def test_the_peak_of_memory_is_known() -> None:
    assert end_of(ChildProcess(lambda: 0 if len(b"x" * 50_000_000) else 1)).peak_bytes > 50_000_000
    assert threading.active_count() >= 1


@pytest.mark.skipif(not OOM_SCORE.exists(), reason="Linux alone has it")
def test_the_system_kills_the_job_before_its_worker_when_memory_runs_out() -> None:
    before = OOM_SCORE.read_text()
    assert end_of(ChildProcess(lambda: int(OOM_SCORE.read_text()) // 100)).status == int(CHILD_OOM_SCORE) // 100
    assert OOM_SCORE.read_text() == before
