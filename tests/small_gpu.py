"""Simulated GPU with little memory, on torch's CPU."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class SmallGpu(TorchDispatchMode):
    """Context in which torch has no memory for a tensor of more than `limit_bytes` bytes: the operation fails as on a GPU.

    Attributes
    ----------
    refused : number of operations that failed
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self.limit_bytes = limit_bytes
        self.refused = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        given = {value.data_ptr() for value in args if isinstance(value, torch.Tensor)}
        for value in made if isinstance(made, tuple) else (made,):
            new = isinstance(value, torch.Tensor) and value._base is None and value.data_ptr() not in given
            if new and value.nbytes > self.limit_bytes:
                self.refused += 1
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return made
