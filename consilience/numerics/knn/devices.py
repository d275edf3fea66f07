"""Graphics cards: which there are. torch is not loaded where there can be none.

CUDA must never start in a process that is forked later: a worker asks `explain_absence` alone, its job's process the rest.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from consilience.errors import InvalidRequest, Unavailable

#: auto: a card where there is one and the search is worth it. cuda: the first card.
DEVICE_PATTERN = re.compile(r"auto|cpu|cuda(?::\d{1,2})?")
#: What NVIDIA's driver shows: on Linux, in a container, under Windows.
DRIVER_FILES = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))


@dataclass(frozen=True)
class Gpu:
    """A card that torch can use.

    Attributes
    ----------
    name : ``cuda:0``, torch's name
    model : what its maker calls it
    """

    name: str
    model: str

    def __str__(self) -> str:
        """As the score document names it."""
        return f"{self.name} {self.model}"


def check_device(word: str) -> None:
    """Refuse a word that is none, and one that asks for a card where there can be none; loads nothing.

    Raises
    ------
    InvalidRequest
        Not `auto`, `cpu`, `cuda` or `cuda:1`.
    Unavailable
        What is missing.
    """
    if not DEVICE_PATTERN.fullmatch(word):
        raise InvalidRequest(
            f"{word!r} is no device.", value=word, hint="Say auto, cpu, cuda, or cuda:1 for the second card."
        )
    if word.startswith("cuda") and (absence := explain_missing_gpu()):
        raise _missing(word, absence)


def find_gpu(word: str) -> Gpu | None:
    """The card that a word asks for; None where the processor is to compute. Loads torch where there may be one.

    Raises
    ------
    InvalidRequest, Unavailable
        As `check_device` says; Unavailable also where torch sees no such card.
    """
    check_device(word)
    if word == "cpu" or explain_missing_gpu():
        return None
    cards = _list_gpus()
    if word == "auto":
        return cards[0] if cards else None
    number = int(word.partition(":")[2] or 0)
    if number >= len(cards):
        raise _missing(word, f"torch sees {', '.join(map(str, cards)) or 'none'}")
    return cards[number]


def explain_missing_gpu() -> str | None:
    """Why there can be no card here; None where there may be one."""
    try:
        build = version("torch")
    except PackageNotFoundError:
        return "torch is not installed"
    if build.endswith("+cpu"):
        return f"torch {build} is built for the processor alone"
    if not any(file.exists() for file in DRIVER_FILES):
        return f"there is no NVIDIA driver (no {', no '.join(map(str, DRIVER_FILES))})"
    return None


@cache
def _list_gpus() -> tuple[Gpu, ...]:
    import torch  # noqa: PLC0415 - it takes a second, and most machines have no card

    if not torch.cuda.is_available():
        return ()
    return tuple(
        Gpu(f"cuda:{number}", torch.cuda.get_device_name(number)) for number in range(torch.cuda.device_count())
    )


def _missing(word: str, found: str) -> Unavailable:
    return Unavailable(
        f"There is no device {word}: {found}.",
        value=word,
        hint="Say cpu, or auto for a card where there is one; docs/operations.md tells what a card needs.",
    )
