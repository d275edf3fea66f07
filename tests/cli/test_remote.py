"""Work in this process: its time limit and its errors."""

import signal
import time
from pathlib import Path

import pytest

from consilience.cli.errors import ExitStatus, exit_status
from consilience.cli.remote import local_work
from consilience.errors import EndpointFailed, InputError, StorageFull, Unavailable, WaitTimedOut
from tests.cli.conftest import Command


def test_work_over_its_time_limit_is_stopped_and_the_timer_is_restored() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(WaitTimedOut, match=r"The command did not finish within 0\.05 s"), local_work("working", 0.05):
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("seconds", [None, float("inf"), 1e300, 60.0])
def test_work_within_its_time_limit_is_finished(seconds: float | None) -> None:
    with local_work("working", seconds) as report:
        report("working", 1, 1)


@pytest.mark.parametrize("kind", [Unavailable, StorageFull])
def test_a_missing_local_resource_is_bad_input_and_not_an_unreachable_service(kind: type[Unavailable]) -> None:
    with pytest.raises(InputError, match=r"No room\. Make some\.") as error, local_work("working", None):
        raise kind("No room.", hint="Make some.")
    assert exit_status(error.value) == ExitStatus.BAD_INPUT


def test_an_embedding_server_that_does_not_respond_is_unreachable() -> None:
    with pytest.raises(EndpointFailed), local_work("working", None):
        raise EndpointFailed("No answer.")


def test_a_missing_device_is_bad_input(consilience: Command, pair: tuple[Path, Path]) -> None:
    ran = consilience("score", *pair, "--device", "cuda:99")
    assert (ran.status, "The device cuda:99 is not available" in ran.err) == (2, True)


@pytest.mark.parametrize("command", ["fit", "apply"])
def test_the_time_limit_applies_to_maps(
    consilience: Command, pair: tuple[Path, Path], tmp_path: Path, command: str
) -> None:
    made = consilience("map", "fit", *pair, "--out", tmp_path / "map.safetensors")
    assert made.status == 0
    first = pair[0] if command == "fit" else tmp_path / "map.safetensors"
    ran = consilience("map", command, first, pair[1], "--out", tmp_path / "new.npy", "--timeout", 0)
    assert (ran.status, (tmp_path / "new.npy").exists()) == (5, False)


def test_the_time_limit_applies_to_extraction(consilience: Command, tmp_path: Path) -> None:
    words = ("baseline:random", "scenes:n=16", "--view", "code", "--out", tmp_path / "set.safetensors")
    assert consilience("extract", *words, "--timeout", 0).status == 5
    assert consilience("extract", *words).status == 0
