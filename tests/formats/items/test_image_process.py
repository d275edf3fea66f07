"""Privileges of the process that decodes images, and the result when an image makes it fail."""

import signal
import sys
from collections.abc import Iterator

import psutil
import pytest

from consilience.errors import MissingExtra, Unavailable
from consilience.formats.items import checks
from consilience.formats.items.checks import ImageCheck, ImageChecker
from tests.formats.items.item_files import encoded_image

PROGRAM = "consilience.formats.items.image_process"


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if PROGRAM in child.cmdline()]


@pytest.fixture
def reader() -> Iterator[ImageChecker]:
    with ImageChecker(1_000_000) as reader:
        yield reader
    assert children() == []


def test_one_process_decodes_images_one_after_the_other(reader: ImageChecker) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        assert reader.check(encoded_image(size=(30, 20), kind=kind)) == ImageCheck(30, 20)
    assert len(children()) == 1


def test_only_the_size_of_a_too_large_image_is_read(reader: ImageChecker) -> None:
    large = encoded_image(size=(2000, 2000))
    assert reader.check(large[: len(large) // 2]) == ImageCheck(2000, 2000)


def test_the_process_can_open_nothing_and_gets_no_secret(reader: ImageChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_DATABASE_URL", "postgresql://user:password@host/name")
    reader.check(encoded_image())
    (child,) = children()
    assert not [name for name in child.environ() if name.startswith("CONSILIENCE")]
    for what in (psutil.RLIMIT_NOFILE, psutil.RLIMIT_FSIZE, psutil.RLIMIT_CORE):
        assert child.rlimit(what) == (0, 0)
    assert 0 < child.rlimit(psutil.RLIMIT_AS)[0] < 2**30


@pytest.mark.parametrize(
    ("number", "message"),
    [(signal.SIGSEGV, "crash"), (signal.SIGABRT, "crash"), (signal.SIGKILL, "too much"), (signal.SIGXCPU, "too much")],
)
def test_after_a_crash_the_image_is_refused_and_a_new_process_starts(
    reader: ImageChecker, number: signal.Signals, message: str
) -> None:
    reader.check(encoded_image())
    children()[0].send_signal(number)
    assert message in (reader.check(encoded_image()).error or "")
    assert reader.check(encoded_image()) == ImageCheck(8, 6)


def test_a_process_that_does_not_respond_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "IMAGE_TIMEOUT_S", 0.3)
    with ImageChecker(1000) as reader:
        reader.check(encoded_image())
        children()[0].send_signal(signal.SIGSTOP)
        assert "too much time" in (reader.check(encoded_image()).error or "")
    assert children() == []


def test_a_process_that_cannot_start_is_not_an_error_about_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with ImageChecker(1000) as reader, pytest.raises(Unavailable, match="did not start"):
        reader.check(encoded_image())


def test_a_missing_pillow_is_reported_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    with ImageChecker(1000) as reader, pytest.raises(MissingExtra, match="Pillow") as caught:
        reader.check(encoded_image())
    assert caught.value.hint == "Run: pip install 'consilience[images]'."
