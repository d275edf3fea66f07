"""The pairs of spaces on which p-values and intervals are put to the test."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np

from consilience.contract.metrics import METRICS

#: Rows of every sample.
N = 128
LATENT = 8
COMPONENTS = 32
FOLDER = Path(__file__).parents[1] / "examples" / "data"
#: Undefined where there are as many dimensions as rows: measured on the leading principal components instead.
FITS_ALL = ("cca_mean", "cca_r2", "pwcca", "eigenspace_overlap")
#: A decomposition or a regression a draw, O(d^3): fewer draws where there are many dimensions. The level of a permutation test
#: does not depend on their number.
COSTLY = ("linear_predictivity", "procrustes", "angular_shape", "bures")
DRAWS, DRAWS_COSTLY = 200, 39
WIDE = 256

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """One kind of data: a sample of N paired rows from a generator."""

    name: str
    words: str
    draw: Callable[[np.random.Generator], Pair]
    dim: int
    metrics: tuple[str, ...] = tuple(METRICS)

    def sample(self, index: int, seed: int) -> Pair:
        """Draw sample number `index` of a seed."""
        return self.draw(np.random.default_rng((seed, crc32(self.name.encode()), index)))

    def parts(self) -> list[tuple[tuple[str, ...], int]]:
        """Group the metrics by number of permutations."""
        costly = tuple(name for name in self.metrics if name in COSTLY and self.dim >= WIDE)
        rest = tuple(name for name in self.metrics if name not in costly)
        return [(names, draws) for names, draws in ((rest, DRAWS), (costly, DRAWS_COSTLY)) if names]


def _gaussian(rng: np.random.Generator, d: int) -> Pair:
    a, b = rng.normal(size=(2, N, d))
    return a, b


def _power_law(rng: np.random.Generator, d: int) -> Pair:
    """Variances 1, 1/4, 1/9, ... along random axes, and a mean as long as a row: the mean cosine is about a half."""
    deviations = 1 / np.arange(1, d + 1)
    sides = []
    for _ in range(2):
        axes, _ = np.linalg.qr(rng.normal(size=(d, d)))
        mean = rng.normal(size=d)
        mean *= np.linalg.norm(deviations) / np.linalg.norm(mean)
        sides.append((rng.normal(size=(N, d)) * deviations) @ axes + mean)
    return sides[0], sides[1]


def _shared_latent(rng: np.random.Generator, d: int) -> Pair:
    """One latent of 8 dimensions seen through two fixed maps, and as much noise as signal."""
    maps = np.random.default_rng(0).normal(size=(2, LATENT, d)) / np.sqrt(LATENT)
    latent = rng.normal(size=(N, LATENT))
    a, b = (latent @ one + rng.normal(size=(N, d)) for one in maps)
    return a, b


@cache
def _real(components: int | None = None) -> Pair:
    """All real rows; of their leading principal components, those of all rows."""
    sides = [np.load(FOLDER / f"stdlib2048_{side}.npy").astype(np.float32) for side in ("docs", "code")]
    if components is not None:
        axes = [np.linalg.svd(side - side.mean(axis=0), full_matrices=False)[2][:components].T for side in sides]
        sides = [(side - side.mean(axis=0)) @ axis for side, axis in zip(sides, axes, strict=True)]
    return sides[0], sides[1]


def _rows(rng: np.random.Generator, components: int | None = None, *, shuffled: bool = False) -> Pair:
    a, b = _real(components)
    rows = rng.choice(len(a), N, replace=False)
    return a[rows], b[rng.permutation(rows) if shuffled else rows]


UNRELATED = (
    Data("gaussian 32", "independent Gaussian rows, d = 32", lambda rng: _gaussian(rng, 32), 32),
    Data("gaussian 256", "independent Gaussian rows, d = 256", lambda rng: _gaussian(rng, 256), 256),
    Data(
        "power law 32", "variances 1/i^2 along random axes and a mean row, d = 32", lambda rng: _power_law(rng, 32), 32
    ),
    Data("power law 256", "the same, d = 256", lambda rng: _power_law(rng, 256), 256),
    Data("real", "real embeddings, d = 384, the pairing shuffled", lambda rng: _rows(rng, shuffled=True), 384),
    Data(
        "real 32",
        "their 32 leading principal components, shuffled",
        lambda rng: _rows(rng, COMPONENTS, shuffled=True),
        COMPONENTS,
        FITS_ALL,
    ),
)
RELATED = (
    Data(
        "shared latent",
        "8 shared dimensions seen through two maps, as much noise, d = 32",
        lambda rng: _shared_latent(rng, 32),
        32,
    ),
    Data("real", "real embeddings, d = 384", _rows, 384),
    Data("real 32", "their 32 leading principal components", lambda rng: _rows(rng, COMPONENTS), COMPONENTS, FITS_ALL),
)
BY_NAME = {"level": {data.name: data for data in UNRELATED}, "coverage": {data.name: data for data in RELATED}}
