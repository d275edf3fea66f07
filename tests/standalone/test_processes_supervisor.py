"""Children stop in order, and those that do not listen are killed."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from consilience.errors import StartupError
from consilience.standalone.processes import FAILED_STARTS_LIMIT, Child, Stopped, Supervisor, block_signals
from tests.serving import until

STUBBORN = ["/bin/sh", "-c", "trap '' TERM; echo up >> $LOG; while :; do sleep 0.05; done"]
POLITE = ["/bin/sh", "-c", "trap 'echo $NAME >> $LOG; exit' TERM; echo up >> $LOG; while :; do sleep 0.05; done"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").touch()
    return tmp_path / "log"


def child(name: str, argv: list[str], log: Path) -> Child:
    return Child(name, argv, {"LOG": str(log), "NAME": name, "PATH": os.environ["PATH"]})


def test_the_group_that_was_started_last_stops_first(log: Path) -> None:
    supervisor = Supervisor(print, grace_s=5)
    with block_signals():
        supervisor.add(child("first", POLITE, log))
        supervisor.add(child("second", POLITE, log))
        until(lambda: log.read_text() == "up\nup\n")
        supervisor.stop()
    assert log.read_text().split()[2:] == ["second", "first"]


def test_a_child_that_does_not_stop_is_killed_after_its_grace(log: Path) -> None:
    stubborn = child("stubborn", STUBBORN, log)
    supervisor = Supervisor(print, grace_s=0.3)
    with block_signals():
        supervisor.add(stubborn)
        until(lambda: log.read_text() == "up\n")
        started = time.monotonic()
        supervisor.stop()
    assert not stubborn.alive
    assert 0.3 <= time.monotonic() - started < 3


def test_a_second_signal_kills_at_once(log: Path) -> None:
    supervisor = Supervisor(print, grace_s=60)
    with block_signals():
        supervisor.add(child("stubborn", STUBBORN, log))
        until(lambda: log.read_text() == "up\n")
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        supervisor.stop()


def test_a_signal_ends_the_wait_for_readiness(log: Path) -> None:
    supervisor = Supervisor(print)
    with block_signals():
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        with pytest.raises(Stopped):
            supervisor.wait_until(lambda: False, "It", timeout_s=10)


def test_a_child_that_never_comes_up_ends_the_start_and_is_named() -> None:
    told: list[str] = []
    supervisor = Supervisor(told.append)
    with block_signals():
        supervisor.add(Child("The part", ["/bin/false"], {}))
        with pytest.raises(StartupError, match="The part does not start"):
            supervisor.wait_until(lambda: False, "It", timeout_s=30)
        supervisor.stop()
    assert told == ["The part exited (exit status 1). It is being restarted."] * FAILED_STARTS_LIMIT


def test_a_service_that_is_never_ready_ends_the_start() -> None:
    with block_signals(), pytest.raises(StartupError, match=r"It is not ready after 0.2 s"):
        Supervisor(print).wait_until(lambda: False, "It", timeout_s=0.2)


def test_a_misconfigured_child_is_not_restarted_during_the_start() -> None:
    told: list[str] = []
    supervisor = Supervisor(told.append)
    with block_signals():
        supervisor.add(Child("The part", ["/bin/sh", "-c", "exit 2"], {}))
        with pytest.raises(StartupError, match="The part does not start"):
            supervisor.wait_until(lambda: False, "It", timeout_s=30)
        supervisor.stop()
    assert told == []
