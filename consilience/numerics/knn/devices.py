"""Available GPUs. torch is imported only if there may be a GPU.

CUDA must not be initialised in a process that forks later: a worker calls only `explain_missing_gpu`, and the
process of its job the other functions.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from consilience.errors import InvalidRequest, Unavailable

#: auto: a GPU if there is one and the search is large enough. cuda: the first GPU.
DEVICE_PATTERN = re.compile(r"auto|cpu|cuda(?::\d{1,2})?")
#: Files of NVIDIA's driver: on Linux, in a container, under Windows.
DRIVER_FILES = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))


@dataclass(frozen=True)
class Gpu:
    """GPU that torch can use.

    Attributes
    ----------
    name : torch's name, such as ``cuda:0``
    model : name of the model
    """

    name: str
    model: str

    def __str__(self) -> str:
        """Return the name used in the score document."""
        return f"{self.name} {self.model}"


def check_device(name: str) -> None:
    """Raise an error for an invalid device name, or for a GPU if there can be none; imports nothing.

    Raises
    ------
    InvalidRequest
        The name is not `auto`, `cpu`, `cuda` or `cuda:1`.
    Unavailable
        The driver or a build of torch with CUDA is missing.
    """
    if not DEVICE_PATTERN.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} is not a device.", value=name, hint="Use auto, cpu, cuda, or cuda:N for the GPU with number N."
        )
    if name.startswith("cuda") and (reason := explain_missing_gpu()):
        raise _unavailable(name, reason)


def find_gpu(name: str) -> Gpu | None:
    """Return the GPU of a device name, or None for the CPU; imports torch if there may be a GPU.

    Raises
    ------
    InvalidRequest, Unavailable
        As in `check_device`; Unavailable also if torch finds no such GPU.
    """
    check_device(name)
    if name == "cpu" or explain_missing_gpu():
        return None
    gpus = _list_gpus()
    if name == "auto":
        return gpus[0] if gpus else None
    number = int(name.partition(":")[2] or 0)
    if number >= len(gpus):
        raise _unavailable(name, f"torch finds {', '.join(map(str, gpus)) or 'no GPU'}")
    return gpus[number]


def explain_missing_gpu() -> str | None:
    """Return the reason why no GPU can be used, or None if one may be available."""
    try:
        build = version("torch")
    except PackageNotFoundError:
        return "torch is not installed"
    if build.endswith("+cpu"):
        return f"torch {build} is built without CUDA"
    if not any(file.exists() for file in DRIVER_FILES):
        return f"there is no NVIDIA driver (none of {', '.join(map(str, DRIVER_FILES))} exists)"
    return None


@cache
def _list_gpus() -> tuple[Gpu, ...]:
    import torch  # noqa: PLC0415 - takes a second, and most machines have no GPU

    if not torch.cuda.is_available():
        return ()
    return tuple(
        Gpu(f"cuda:{number}", torch.cuda.get_device_name(number)) for number in range(torch.cuda.device_count())
    )


def _unavailable(name: str, reason: str) -> Unavailable:
    return Unavailable(
        f"The device {name} is not available: {reason}.",
        value=name,
        hint="Use cpu, or auto to use a GPU only if there is one; docs/operations.md lists what a GPU needs.",
    )
