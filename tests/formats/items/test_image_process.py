"""The process that decodes pictures: what it may do, and what comes of it when a picture makes it fail."""

import signal
import sys
from collections.abc import Iterator

import psutil
import pytest

from consilience.errors import MissingExtra, Unavailable
from consilience.formats.items import checks
from consilience.formats.items.checks import ImageCheck, ImageChecker
from tests.formats.items.item_files import picture

PROGRAM = "consilience.formats.items.image_process"


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if PROGRAM in child.cmdline()]


@pytest.fixture
def reader() -> Iterator[ImageChecker]:
    with ImageChecker(1_000_000) as reader:
        yield reader
    assert children() == []


def test_one_process_decodes_one_picture_after_the_other(reader: ImageChecker) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        assert reader.examine(picture(size=(30, 20), kind=kind)) == ImageCheck(30, 20)
    assert len(children()) == 1


def test_of_a_picture_that_is_too_large_its_size_alone_is_told(reader: ImageChecker) -> None:
    large = picture(size=(2000, 2000))
    assert reader.examine(large[: len(large) // 2]) == ImageCheck(2000, 2000)


def test_it_may_open_nothing_and_is_told_no_secret(reader: ImageChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_DATABASE_URL", "postgresql://user:password@host/name")
    reader.examine(picture())
    (child,) = children()
    assert not [name for name in child.environ() if name.startswith("CONSILIENCE")]
    for what in (psutil.RLIMIT_NOFILE, psutil.RLIMIT_FSIZE, psutil.RLIMIT_CORE):
        assert child.rlimit(what) == (0, 0)
    assert 0 < child.rlimit(psutil.RLIMIT_AS)[0] < 2**30


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGSEGV, "crash"), (signal.SIGABRT, "crash"), (signal.SIGKILL, "too much"), (signal.SIGXCPU, "too much")],
)
def test_its_death_is_a_fault_of_the_picture_and_the_next_one_gets_another(
    reader: ImageChecker, number: signal.Signals, said: str
) -> None:
    reader.examine(picture())
    children()[0].send_signal(number)
    assert said in (reader.examine(picture()).fault or "")
    assert reader.examine(picture()) == ImageCheck(8, 6)


def test_one_that_never_answers_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PATIENCE_S", 0.3)
    with ImageChecker(1000) as reader:
        reader.examine(picture())
        children()[0].send_signal(signal.SIGSTOP)
        assert "too much time" in (reader.examine(picture()).fault or "")
    assert children() == []


def test_one_that_cannot_start_is_no_fault_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with ImageChecker(1000) as reader, pytest.raises(Unavailable, match="did not start"):
        reader.examine(picture())


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    with ImageChecker(1000) as reader, pytest.raises(MissingExtra, match="Pillow") as caught:
        reader.examine(picture())
    assert caught.value.hint == "Run: pip install 'consilience[images]'."
