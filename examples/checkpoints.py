"""Training loop that scores its model against a reference set after every few steps: `python examples/checkpoints.py URL`.

The model is a linear map, trained by gradient descent to tell from a docstring's embedding that of the function's code. The
reference set is three layers of a code model: where among them does a checkpoint stand?
"""

import sys
from pathlib import Path

import numpy as np

from consilience.client.sync import Client

DATA = Path(__file__).parent / "data"
STEPS, EVERY = 900, 300


def main(url: str) -> None:
    """Train, and score each checkpoint."""
    docs, code = (np.load(DATA / f"dev_{name}.npy").astype(np.float64) for name in ("docs", "code"))
    inputs, targets = (_unit(layers[:, -1]) for layers in (docs, code))
    weights = np.random.default_rng(0).normal(size=(inputs.shape[1], targets.shape[1])) / 20
    rate = 1.9 / np.linalg.norm(inputs, 2) ** 2
    with Client(url) as client:
        members = [client.upload(code[:, layer], name=f"code-layer-{layer}") for layer in (2, 4, 6)]
        reference = client.add_reference("code-model", members)
        for step in range(STEPS + 1):
            if step % EVERY == 0:
                # One request holds the checkpoint and names the reference set.
                found = client.align(inputs @ weights, reference=reference, metrics="mutual_knn").wait()
                result = found.ranks[0]
                print(f"step {step}: mutual_knn {result.value:.3f}, rank {result.rank} of {result.n_ranked}")
            weights -= rate * inputs.T @ (inputs @ weights - targets)


def _unit(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=0)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True)) / np.sqrt(len(rows))


if __name__ == "__main__":
    main(sys.argv[1])
