"""Thresholds, p-values and calibrated scores against calibrated-similarity, the article's own package, on the same draws.

The package computes each draw from permuted rows, with the reference implementations; here each search runs once.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from calibrated_similarity import calibrate, calibrate_layers

from consilience.contract.scores import Score
from consilience.numerics.stats.nulls import draw_permutation
from consilience.scoring import score
from tests.reference_implementations import basic, subspaces

N, DRAWS, SEED = 48, 60, 7
#: The peer holds its draws in float32.
FLOAT32 = 2e-6
Similarity = Callable[[np.ndarray, np.ndarray], float]
SIMILARITIES: dict[str, tuple[dict[str, object], Similarity]] = {
    "mutual_knn": ({"k": 5}, lambda a, b: basic.mutual_knn(basic.unit_rows(a), basic.unit_rows(b), 5)),
    "cka": ({"debiased": False}, lambda a, b: basic.cka(basic.unit_rows(a), basic.unit_rows(b), debiased=False)),
    "procrustes": ({}, lambda a, b: subspaces.procrustes(basic.unit_rows(a), basic.unit_rows(b))),
}


def draws() -> Callable[[int, torch.device], torch.Tensor]:
    """Return a function that draws the permutations of a request with this seed, one per call."""
    rng = np.random.default_rng(SEED)
    return lambda n, _device: torch.from_numpy(draw_permutation(rng, n))


def on_tensors(similarity: Similarity) -> Callable[[torch.Tensor, torch.Tensor], float]:
    return lambda a, b: similarity(a.numpy(), b.numpy())


def layers(noise: float) -> Iterator[list[np.ndarray]]:
    """Draw two layers of a and three of b that share a signal, less with more noise."""
    rng = np.random.default_rng(11)
    latent = rng.normal(size=(N, 4))
    for count in (2, 3):
        yield [(latent + noise * (1 + i) * rng.normal(size=(N, 4))).astype(np.float32) for i in range(count)]


def ours(name: str, a: object, b: object, alpha: float) -> Score:
    choice = {"metric": name, **SIMILARITIES[name][0]}
    null = {"method": "permutation", "permutations": DRAWS, "alpha": alpha}
    return score(a, b, metrics=[choice], layers="all", null=null, interval=None, seed=SEED).scores[0]


def agrees(found: Score, peer: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    calibrated, p, threshold = (float(value) for value in peer)
    assert found.null.p_value == pytest.approx(p, rel=1e-6)
    assert found.null.threshold == pytest.approx(threshold, abs=FLOAT32)
    assert found.calibrated == pytest.approx(calibrated, abs=2 * FLOAT32)


@pytest.mark.parametrize("noise", [0.5, 20.0], ids=["related", "unrelated"])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("name", SIMILARITIES)
def test_one_layer_pair_is_calibrated_as_in_calibrated_similarity(name: str, alpha: float, noise: float) -> None:
    (a, *_), (b, *_) = layers(noise)
    call = partial(calibrate, K=DRAWS, alpha=alpha, perm_fn=draws())
    agrees(ours(name, a, b, alpha), call(torch.from_numpy(a), torch.from_numpy(b), on_tensors(SIMILARITIES[name][1])))


@pytest.mark.parametrize("noise", [0.5, 20.0], ids=["related", "unrelated"])
@pytest.mark.parametrize("name", ["mutual_knn", "cka"])
def test_the_maximum_of_a_grid_is_calibrated_as_in_calibrated_similarity(name: str, noise: float) -> None:
    a, b = layers(noise)
    peer = calibrate_layers(
        *([torch.from_numpy(layer) for layer in side] for side in (a, b)),
        on_tensors(SIMILARITIES[name][1]),
        agg="max",
        K=DRAWS,
        perm_fn=draws(),
    )
    sides = ({str(i): layer for i, layer in enumerate(side)} for side in (a, b))
    agrees(ours(name, *sides, alpha=0.05), peer)
