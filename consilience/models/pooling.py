"""The vectors of an item's tokens as one."""

from collections.abc import Callable

import torch

Pool = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def pool_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the tokens under the mask: (b, t, d) and (b, t) give (b, d), summed in float32."""
    weights = mask.to(torch.float32)
    total = torch.bmm(weights.unsqueeze(1), hidden.to(torch.float32)).squeeze(1)
    return total / weights.sum(1, keepdim=True)


def pool_first(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - a Pool's signature
    """The first token, which is the class token where there is one."""
    return hidden[:, 0]


def pool_last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The last token under the mask, which in a decoder has seen all others."""
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]


POOLS: dict[str, Pool] = {"mean": pool_mean, "cls": pool_first, "last": pool_last}
