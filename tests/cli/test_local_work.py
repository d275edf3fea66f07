"""Work in this process: its time limit, and whom its errors blame."""

import signal
import time
from pathlib import Path

import pytest

from consilience.cli.errors import ExitStatus, status_of
from consilience.cli.remote import work_here
from consilience.errors import EndpointFailed, InputError, StorageFull, Unavailable, WaitTimedOut
from tests.cli.conftest import Command


def test_work_that_takes_too_long_is_stopped_and_the_clock_is_as_before() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(WaitTimedOut, match=r"Not finished after 0\.05 s"), work_here("working", 0.05):
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("seconds", [None, float("inf"), 1e300, 60.0])
def test_work_within_its_time_is_done(seconds: float | None) -> None:
    with work_here("working", seconds) as report:
        report("working", 1, 1)


@pytest.mark.parametrize("kind", [Unavailable, StorageFull])
def test_what_this_machine_lacks_is_no_service_out_of_reach(kind: type[Unavailable]) -> None:
    with pytest.raises(InputError, match=r"No room\. Make some\.") as told, work_here("working", None):
        raise kind("No room.", hint="Make some.")
    assert status_of(told.value) == ExitStatus.BAD_INPUT


def test_a_server_of_embeddings_that_does_not_answer_is_out_of_reach() -> None:
    with pytest.raises(EndpointFailed), work_here("working", None):
        raise EndpointFailed("No answer.")


def test_a_device_that_is_not_there_is_bad_input(consilience: Command, pair: tuple[Path, Path]) -> None:
    ran = consilience("score", *pair, "--device", "cuda:99")
    assert (ran.status, "There is no device cuda:99" in ran.err) == (2, True)


@pytest.mark.parametrize("command", ["fit", "apply"])
def test_the_time_limit_holds_for_maps_too(
    consilience: Command, pair: tuple[Path, Path], tmp_path: Path, command: str
) -> None:
    made = consilience("map", "fit", *pair, "--out", tmp_path / "map.safetensors")
    assert made.status == 0
    first = pair[0] if command == "fit" else tmp_path / "map.safetensors"
    ran = consilience("map", command, first, pair[1], "--out", tmp_path / "new.npy", "--timeout", 0)
    assert (ran.status, (tmp_path / "new.npy").exists()) == (5, False)


def test_the_time_limit_holds_for_extraction_too(consilience: Command, tmp_path: Path) -> None:
    words = ("baseline:random", "scenes:n=16", "--view", "code", "--out", tmp_path / "set.safetensors")
    assert consilience("extract", *words, "--timeout", 0).status == 5
    assert consilience("extract", *words).status == 0
