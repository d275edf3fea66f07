"""What content is called: digests that are the same wherever the content lies."""

import hashlib
import json

from consilience.contract.embeddings import LayerDtype


def start_hash(n: int, dim: int, dtype: LayerDtype) -> "hashlib._Hash":
    """The hash of a layer before its first row: of the header line."""
    return hashlib.sha256(canonical({"dtype": dtype, "shape": [n, dim]}) + b"\n")


def canonical(value: object) -> bytes:
    """JSON in the one spelling that digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
