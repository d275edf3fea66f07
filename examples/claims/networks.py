"""Small networks that learn from scikit-learn's digits: the models of three of the claims."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import nn

#: Number of images that no network is trained on; every network embeds these.
PROBES = 512
STEPS = 600
BATCH = 128


@dataclass(frozen=True)
class NetworkOptions:
    """Configuration of one network.

    Attributes
    ----------
    width : neurons of each of the two hidden layers
    seed : seed of the initial weights, and of the half of the images used for training
    tasks : number of yes-or-no tasks; 0 for the classification of the ten digits
    decay : weight decay
    gain : scale of the initial weights, relative to the usual one
    """

    width: int
    seed: int
    tasks: int = 0
    decay: float = 0.0
    gain: float = 1.0


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network: its rows of the probes (n, 2, width), and its accuracy on them."""

    rows: npt.NDArray[np.float32]
    accuracy: float


def train(recipe: NetworkOptions) -> TrainedNetwork:
    """Learn from one half of the training pictures; rows are the two hidden layers' answers to the probes."""
    torch.set_num_threads(1)  # networks this small are slower with more
    torch.manual_seed(recipe.seed)
    pixels, digits = load_pixels()
    half = torch.randperm(len(pixels) - PROBES)[: (len(pixels) - PROBES) // 2] + PROBES
    targets = ask(digits, recipe)
    first, second = nn.Linear(64, recipe.width), nn.Linear(recipe.width, recipe.width)
    head = nn.Linear(recipe.width, targets.shape[1])
    for layer in (first, second):
        layer.weight.data *= recipe.gain
    body = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
    whole = nn.Sequential(body, head)
    optimiser = torch.optim.AdamW(whole.parameters(), lr=2e-3, weight_decay=recipe.decay)
    for _ in range(STEPS):
        batch = half[torch.randint(len(half), (BATCH,))]
        loss = nn.functional.binary_cross_entropy_with_logits(whole(pixels[batch]), targets[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.inference_mode():
        probes = pixels[:PROBES]
        hidden = torch.stack([body[:2](probes), body(probes)], dim=1)
        right = _is_right(whole(probes), targets[:PROBES], one_of_many=recipe.tasks == 0)
    return TrainedNetwork(hidden.numpy(), float(right))


def ask(digits: torch.Tensor, recipe: NetworkOptions) -> torch.Tensor:
    """Return the labels (n, tasks) as 0 and 1: the digit, or for each task whether the digit is in its set of five."""
    classes = nn.functional.one_hot(digits, 10).float()
    if recipe.tasks == 0:
        return classes
    chance = torch.Generator().manual_seed(1000 + recipe.seed)
    fives = torch.stack([torch.randperm(10, generator=chance)[:5] for _ in range(recipe.tasks)])
    return classes @ nn.functional.one_hot(fives, 10).sum(dim=1).float().T


@cache
def load_pixels() -> tuple[torch.Tensor, torch.Tensor]:
    """Load the 1797 images (n, 64) between 0 and 1 in a fixed order, and the digit of each."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return torch.from_numpy(data.data[order].astype(np.float32) / 16), torch.from_numpy(data.target[order])


def _is_right(logits: torch.Tensor, targets: torch.Tensor, *, one_of_many: bool) -> torch.Tensor:
    if one_of_many:
        return (logits.argmax(dim=1) == targets.argmax(dim=1)).float().mean()
    return ((logits > 0).float() == targets).float().mean()
