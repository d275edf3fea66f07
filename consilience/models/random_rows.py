"""The model `baseline:random`: random rows, whose agreement with any other rows is chance."""

import hashlib
from collections.abc import Sequence

import numpy as np

from consilience.contract.datasets import ViewKind
from consilience.contract.records import ModelRecord
from consilience.models.base import Encoded, ModelInput, find_layer_indices, library_versions


class RandomRowsModel:
    """Model with standard normal rows, seeded by the item's digest: equal items have equal rows everywhere."""

    kinds: frozenset[ViewKind] = frozenset({"text", "code", "image"})

    def __init__(self, identifier: str, dim: int, seed: int) -> None:
        self._dim, self._seed = dim, seed
        self.layers = (("0", dim),)
        self.record = ModelRecord(
            model=identifier,
            pooling="built_in",
            preparation={"dim": str(dim), "seed": str(seed)},
            dtype="float32",
            libraries=library_versions("numpy"),
            device="cpu",
        )

    def encode(self, items: Sequence[ModelInput], layers: Sequence[str]) -> Encoded:
        """See `EmbeddingModel.encode`."""
        indices = find_layer_indices(self.layers, layers)
        rows = np.empty((len(items), self._dim), np.float32)
        for row, item in zip(rows, items, strict=True):
            digest = hashlib.sha256(item.encode() if isinstance(item, str) else item).digest()
            entropy = [self._seed, int.from_bytes(digest, "little")]
            np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy))).standard_normal(
                self._dim, np.float32, row
            )
        return Encoded((rows,) * len(indices))
