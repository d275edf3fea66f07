"""Map of two linear layers with a GELU between them, trained by torch on rows that are read by blocks."""

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

#: Number of rows shuffled together; more rows are processed in chunks of this size, in random order.
SHUFFLED_ROWS = 16_384
#: Relative rounding of float32, with a margin.
_ROUNDING = 1e-6

RowNumbers = npt.NDArray[np.intp]
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class TrainingOptions:
    """Options of training.

    Attributes
    ----------
    hidden : number of hidden units
    epochs : largest number of epochs
    patience : number of epochs without improvement after which training stops
    batch : number of rows of a step
    learning_rate : learning rate of AdamW, whose other settings are torch's defaults
    seed : seed of the initial weights and of the order of the rows
    """

    hidden: int
    epochs: int
    patience: int
    batch: int
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Scale:
    """Standardisation of rows to mean 0 and mean variance 1, with one factor for all dimensions.

    Attributes
    ----------
    mean : array of shape (d,), float64
    sd : square root of the mean variance
    """

    mean: Float64Array
    sd: float

    def standardise(self, rows: Float32Array) -> torch.Tensor:
        """Convert rows to a standardised tensor."""
        return torch.from_numpy(((rows - self.mean) / self.sd).astype(np.float32))


def find_scale(mean: Float64Array, square: float, n: int) -> Scale:
    """Return the scale of n rows from their mean and their summed squared distance from it, at least the size of rounding."""
    rounding = _ROUNDING * float(np.linalg.norm(mean)) / len(mean) ** 0.5
    return Scale(mean, max((max(square, 0.0) / (n * len(mean))) ** 0.5, rounding) or 1.0)


@dataclass(frozen=True)
class TrainingPairs:
    """Paired rows, and their split into training and validation rows.

    Attributes
    ----------
    a, b : access to the prepared rows
    scales : standardisation of a and of b
    train_rows, validation_rows : row numbers, ascending; the loss on the validation rows decides when to stop
    """

    a: Rows
    b: Rows
    scales: tuple[Scale, Scale]
    train_rows: RowNumbers
    validation_rows: RowNumbers

    def take(self, rows: RowNumbers) -> Batch:
        """Return some rows of both sides, standardised."""
        return self.scales[0].standardise(self.a.take(rows)), self.scales[1].standardise(self.b.take(rows))


@dataclass(frozen=True)
class TrainedMap:
    """Trained map, the epoch of its weights, the number of epochs run, and its mean squared error on the validation rows."""

    transform: Transform
    epoch: int
    epochs_run: int
    loss: float


def train_mlp(pairs: TrainingPairs, options: TrainingOptions, report: Callable[[int, int], None]) -> TrainedMap:
    """Train until the loss on the validation rows no longer falls, and return the weights of the best epoch.

    Parameters
    ----------
    report : called with the number of epochs done and the largest number

    Raises
    ------
    InvalidRequest
        Training diverged.
    """
    model = _make(pairs.a.dim, options, pairs.b.dim)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    rng = np.random.default_rng(options.seed)
    best, epoch, kept = inf, 0, _copy(model)
    done = 0
    for done in range(1, options.epochs + 1):
        for x, y in _batches(pairs, options.batch, rng):
            optimiser.zero_grad(set_to_none=True)
            nn.functional.mse_loss(model(x), y).backward()
            optimiser.step()
        if (loss := _validation_loss(model, pairs)) < best:
            best, epoch, kept = loss, done, _copy(model)
        report(done, options.epochs)
        if not isfinite(loss) or done - epoch >= options.patience:
            break
    if epoch == 0:
        raise InvalidRequest(
            f"Training diverged at the learning rate {options.learning_rate}.",
            value=options.learning_rate,
            hint="Use a lower learning rate.",
            pointer="/map/learning_rate",
        )
    return TrainedMap(_unscale(kept, pairs.scales), epoch, done, best)


def _make(dim_a: int, options: TrainingOptions, dim_b: int) -> nn.Sequential:
    """Create the network with torch's initial weights for the seed; the process's random state is not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return nn.Sequential(nn.Linear(dim_a, options.hidden), nn.GELU(), nn.Linear(options.hidden, dim_b))


def _batches(pairs: TrainingPairs, size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield batches of all training rows, in random order."""
    count = -(-len(pairs.train_rows) // SHUFFLED_ROWS)
    for chunk in rng.permutation(count):
        rows = pairs.train_rows[chunk * SHUFFLED_ROWS : (chunk + 1) * SHUFFLED_ROWS]
        x, y = pairs.take(rows)
        order = torch.from_numpy(rng.permutation(len(rows)))
        for start in range(0, len(rows), size):
            some = order[start : start + size]
            yield x[some], y[some]


@torch.no_grad()
def _validation_loss(model: nn.Module, pairs: TrainingPairs) -> float:
    total = 0.0
    for start in range(0, len(pairs.validation_rows), SHUFFLED_ROWS):
        x, y = pairs.take(pairs.validation_rows[start : start + SHUFFLED_ROWS])
        total += float(nn.functional.mse_loss(model(x), y)) * len(x)
    return total / len(pairs.validation_rows)


def _copy(model: nn.Module) -> list[Float64Array]:
    """Copy weights and biases, layer by layer."""
    return [parameter.detach().numpy().astype(np.float64) for parameter in model.parameters()]


def _unscale(kept: list[Float64Array], scales: tuple[Scale, Scale]) -> Transform:
    """Convert to a map of unscaled rows; torch's weights are transposed."""
    first, first_bias, second, second_bias = kept
    a, b = scales
    return Transform(
        (
            Affine(first.T / a.sd, a.mean, first_bias).step(),
            Affine(second.T * b.sd, np.zeros(second.shape[1]), second_bias * b.sd + b.mean).step(),
        ),
        gelu=True,
    )
