"""torchvision without its compiled part.

timm and transformers import torchvision for the transforms of images alone. Beside a torch that was built for the
processor, the compiled operators of PyPI's torchvision (which want CUDA) do not load, and then all of torchvision fails
to import, because it registers shapes for two operators that do not exist. These two are declared here, no more: who
calls one is told by torchvision that its operators could not be loaded.
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
#: A declaration holds as long as its library lives.
_kept: list[Any] = []


@cache
def patch_torchvision() -> bool:
    """Make torchvision importable where only its compiled part is in the way; call it before whoever imports it.

    Returns whether there was something to mend.
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
