"""Patch that makes torchvision importable without its compiled operators.

timm and transformers import torchvision only for image transforms. With a CPU build of torch, the compiled operators of
PyPI's torchvision (which need CUDA) do not load, and then the import of torchvision fails, because it registers shapes for
two operators that do not exist. The patch declares these two and nothing else: a caller of one gets torchvision's error
that its operators could not be loaded.
"""

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

_DECLARATIONS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
#: Libraries of the declarations, which are valid as long as their library object exists.
_kept: list[Any] = []


@cache
def patch_torchvision() -> bool:
    """Make torchvision importable if only its compiled operators fail to load; call this before any import of it.

    Returns True if the patch was needed.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None or "torchvision" in sys.modules or _loads(Path(spec.origin).parent):
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    for declaration in _DECLARATIONS:
        library.define(declaration)
    _kept.append(library)
    return True


def _loads(folder: Path) -> bool:
    try:
        for file in folder.glob("_C*.so"):
            torch.ops.load_library(file)
    except (ImportError, OSError):
        return False
    return True
