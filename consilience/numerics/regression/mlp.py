"""A map of two layers with a GELU between them, trained by torch on rows that are read by blocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from consilience.errors import InvalidRequest
from consilience.numerics.regression.maps import Affine, Transform
from consilience.numerics.rows.arrays import Float32Array, Float64Array
from consilience.numerics.rows.prepared import Rows

#: Rows that are shuffled among each other; more are gone through by parts of so many, in a random order.
SHUFFLED_ROWS = 16_384
#: Of float32, with room.
_ROUNDING = 1e-6

Places = npt.NDArray[np.intp]
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """How it is trained.

    Attributes
    ----------
    hidden : values between both layers
    epochs : at most
    patience : epochs without a better one after which it stops
    batch : rows of a step
    learning_rate : of AdamW, whose other settings are torch's
    seed : of the first weights and of the order of the rows
    """

    hidden: int
    epochs: int
    patience: int
    batch: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Scale:
    """Rows are moved to mean 0 and scaled, all dimensions alike, to mean variance 1, before the layers see them.

    Attributes
    ----------
    mean : array of shape (d,), float64
    sd : square root of the mean variance
    """

    mean: Float64Array
    sd: float

    def narrow(self, rows: Float32Array) -> torch.Tensor:
        """What the layers see."""
        return torch.from_numpy(((rows - self.mean) / self.sd).astype(np.float32))


def find_scale(mean: Float64Array, square: float, n: int) -> Scale:
    """The scale of n rows from their mean and their summed squared distance from it; rounding at least."""
    rounding = _ROUNDING * float(np.linalg.norm(mean)) / len(mean) ** 0.5
    return Scale(mean, max((max(square, 0.0) / (n * len(mean))) ** 0.5, rounding) or 1.0)


@dataclass(frozen=True)
class Pairs:
    """Paired rows, and which of them are trained on.

    Attributes
    ----------
    a, b : access to the prepared rows
    scales : of a and of b
    trained, watched : row numbers, ascending; those watched say when to stop
    """

    a: Rows
    b: Rows
    scales: tuple[Scale, Scale]
    trained: Places
    watched: Places

    def take(self, places: Places) -> Batch:
        """Some rows, as the layers see them."""
        return self.scales[0].narrow(self.a.take(places)), self.scales[1].narrow(self.b.take(places))


@dataclass(frozen=True)
class Trained:
    """The map, the epoch that its weights are of, the epochs gone through, and its mean squared error on the rows watched."""

    transform: Transform
    epoch: int
    epochs_run: int
    loss: float


def train(pairs: Pairs, recipe: Recipe, report: Callable[[int, int], None]) -> Trained:
    """Train until the rows watched no longer profit; the best epoch's weights count.

    Parameters
    ----------
    report : told the epochs done and their largest number

    Raises
    ------
    InvalidRequest
        Training diverged.
    """
    model = _make(pairs.a.dim, recipe, pairs.b.dim)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    rng = np.random.default_rng(recipe.seed)
    best, epoch, kept = inf, 0, _copy(model)
    done = 0
    for done in range(1, recipe.epochs + 1):
        for x, y in _batches(pairs, recipe.batch, rng):
            optimiser.zero_grad(set_to_none=True)
            nn.functional.mse_loss(model(x), y).backward()
            optimiser.step()
        if (loss := _watch(model, pairs)) < best:
            best, epoch, kept = loss, done, _copy(model)
        report(done, recipe.epochs)
        if not isfinite(loss) or done - epoch >= recipe.patience:
            break
    if epoch == 0:
        raise InvalidRequest(
            "Training diverged.",
            value=recipe.learning_rate,
            hint="Lower the learning rate.",
            pointer="/map/learning_rate",
        )
    return Trained(_unscale(kept, pairs.scales), epoch, done, best)


def _make(dim_a: int, recipe: Recipe, dim_b: int) -> nn.Sequential:
    """Torch's own first weights, of the seed; the process's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return nn.Sequential(nn.Linear(dim_a, recipe.hidden), nn.GELU(), nn.Linear(recipe.hidden, dim_b))


def _batches(pairs: Pairs, size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """All rows trained on, in a random order."""
    count = -(-len(pairs.trained) // SHUFFLED_ROWS)
    for part in rng.permutation(count):
        places = pairs.trained[part * SHUFFLED_ROWS : (part + 1) * SHUFFLED_ROWS]
        x, y = pairs.take(places)
        order = torch.from_numpy(rng.permutation(len(places)))
        for start in range(0, len(places), size):
            some = order[start : start + size]
            yield x[some], y[some]


@torch.no_grad()
def _watch(model: nn.Module, pairs: Pairs) -> float:
    total = 0.0
    for start in range(0, len(pairs.watched), SHUFFLED_ROWS):
        x, y = pairs.take(pairs.watched[start : start + SHUFFLED_ROWS])
        total += float(nn.functional.mse_loss(model(x), y)) * len(x)
    return total / len(pairs.watched)


def _copy(model: nn.Module) -> list[Float64Array]:
    """Weights and biases, layer by layer."""
    return [parameter.detach().numpy().astype(np.float64) for parameter in model.parameters()]


def _unscale(kept: list[Float64Array], scales: tuple[Scale, Scale]) -> Transform:
    """The same map from and to rows that are not scaled: torch's weights stand the other way round."""
    first, first_bias, second, second_bias = kept
    a, b = scales
    return Transform(
        (
            Affine(first.T / a.sd, a.mean, first_bias).step(),
            Affine(second.T * b.sd, np.zeros(second.shape[1]), second_bias * b.sd + b.mean).step(),
        ),
        gelu=True,
    )
