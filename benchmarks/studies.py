"""The grid of the Platonic Representation Hypothesis at its real size, synthetic content, through the worker's own path.

12 language models of 25 to 41 layers and 17 vision models of 12 to 40, n = 1024, d from 768 to 4096, in half precision as
the service keeps them: the best layer pair by mutual_knn with k = 10 of all 204 cells, each with its closed-form null, from a
cold cache. Beside it, in the same run, the dense method of the reference (`dense`) on a sample of layer pairs: it searches both
layers anew for every pair of a grid. Then the same study again with its cells kept, and with one model more.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks import dense
from consilience.contract.alignments import ScoringOptions
from consilience.contract.embeddings import Layer
from consilience.contract.studies import StudyOptions
from consilience.contract.study_results import StudyDocument
from consilience.execution.alignment import CachedGraphs
from consilience.formats.open_file import LayerHeader, OpenFile, Tensor
from consilience.metrics.graph_sources import FreshGraphs
from consilience.numerics.rows.sources import ArrayLayer, SideSource
from consilience.scoring import ignore_progress, score_sources
from consilience.stores.blobs import BlobStore, set_digest
from consilience.stores.cells import CellRecords
from consilience.stores.database import Database
from consilience.stores.graph_cache import DiskCache
from consilience.studies.running import StudyModel, StudyModels, run_study

N, K, LATENT = 1024, 10, 64
#: Layers and columns of each model.
LANGUAGE = [
    *((25, 1024), (25, 1536), (25, 2048), (31, 2560), (31, 4096)),
    *((27, 3200), (33, 4096), (41, 4096), (33, 4096), (41, 4096), (33, 2048), (29, 3072)),
]
VISION = [
    *((12, 768), (12, 768), (24, 1024), (32, 1280), (40, 1536), (12, 768), (24, 1024), (40, 1536), (12, 768)),
    *((24, 1024), (32, 1280), (12, 768), (24, 1024), (32, 1280), (12, 768), (24, 1024), (32, 1280)),
]
OPTIONS: dict[str, object] = {
    "metrics": [{"metric": "mutual_knn", "k": K}],
    "layers": "all",
    "interval": None,
    "preparation": "prh",
    "memory_budget_bytes": 4_000_000_000,
}
#: Layer pairs on which the dense method is timed, before and after.
SAMPLE = 12


def measure() -> dict[str, object]:
    """Every figure; the study in a process of its own, so that the peak of memory is its own."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("STUDY_FOLDER")) as folder:
        started = time.perf_counter()
        _part("store", folder)
        stored_s = time.perf_counter() - started
        before = _part("dense", folder)
        study = _part("study", folder)
        after = _part("dense", folder)
        again = _part("again", folder)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    pairs = sum(layers for layers, _ in LANGUAGE) * sum(layers for layers, _ in VISION)
    dense_s = (float(before["seconds"]) + float(after["seconds"])) / 2 * pairs
    dense_cpu_s = (float(before["cpu_s"]) + float(after["cpu_s"])) / 2 * pairs
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cells": len(LANGUAGE) * len(VISION),
        "layers": sum(layers for layers, _ in LANGUAGE + VISION),
        "layer_pairs": pairs,
        "folder_gb": round(size / 1e9, 2),
        "stored_s": round(stored_s, 1),
        "dense_pair_s": [before["seconds"], after["seconds"]],
        "dense_pair_cpu_s": [before["cpu_s"], after["cpu_s"]],
        "dense_all_s": round(dense_s),
        "study": study,
        "again": again,
        "times_faster": round(dense_s / float(study["seconds"])),
        "times_less_processor_time": round(dense_cpu_s / float(study["cpu_s"])),
    }


def _part(name: str, folder: str) -> Mapping[str, float]:
    command = [sys.executable, "-m", "benchmarks.studies", name, folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def make_layers(number: int, layers: int, dim: int) -> Iterator[np.ndarray]:
    """Make a model's layers: a latent that all models share emerges from noise towards the middle, and disappears again."""
    rng = np.random.default_rng(number)
    latent = np.random.default_rng(0).normal(size=(N, LATENT)).astype(np.float32)
    own = rng.normal(size=(N, LATENT)).astype(np.float32)
    for layer in range(layers):
        shared = 1.2 * np.sin(np.pi * (layer + 1) / (layers + 1))
        mixed = shared * latent + own
        noise = rng.standard_normal(size=(N, dim), dtype=np.float32)
        yield (mixed @ rng.standard_normal(size=(LATENT, dim), dtype=np.float32) + noise).astype(np.float16)


def store_models(folder: str) -> dict[str, float]:
    """Put the layers of all models, and of one more, where the service keeps them."""
    blobs = BlobStore(Path(folder))
    for number, (layers, dim) in enumerate([*LANGUAGE, *VISION, LANGUAGE[0]]):
        made = list(make_layers(number, layers, dim))
        headers = tuple(LayerHeader(str(i), N, dim, "F16") for i in range(layers))
        tensors = tuple(
            Tensor(str(i), (N, dim), np.dtype("<f2"), partial(iter, [layer])) for i, layer in enumerate(made)
        )
        stored = blobs.put(OpenFile(headers, tensors))
        described = {"digest": set_digest(stored), "layers": [layer.model_dump() for layer in stored]}
        Path(folder, f"{number}.json").write_text(json.dumps(described))
    return {}


def open_models(folder: str, numbers: Sequence[int]) -> list[StudyModel]:
    """Store models and return them."""
    blobs, models = BlobStore(Path(folder)), []
    for number in numbers:
        described = json.loads(Path(folder, f"{number}.json").read_text())
        layers = [blobs.open(Layer.model_validate(layer), N) for layer in described["layers"]]
        models.append(StudyModel(f"model {number}", SideSource(str(number), layers), {}, described["digest"]))
    return models


def run(folder: str, rows: Sequence[int], columns: Sequence[int]) -> tuple[StudyDocument, float, list[float]]:
    """Run a study as a worker does: the document, its seconds, and the time of each cell."""
    database = Database(f"sqlite:///{folder}/cells.db")
    database.migrate()
    models = StudyModels(open_models(folder, rows), open_models(folder, columns))
    options = StudyOptions.model_validate(OPTIONS)
    started, seen = time.perf_counter(), []

    def report(stage: str, done: int, _total: int) -> None:
        if stage == "cells" and done:
            seen.append(time.perf_counter() - started)

    graphs = CachedGraphs(DiskCache(Path(folder), 8 << 30), report)
    document = run_study(options, models, graphs, report, cells=CellRecords(database))
    return document, time.perf_counter() - started, seen


def measure_study(folder: str) -> dict[str, object]:
    """Measure the study from a cold cache."""
    warm = [ArrayLayer("0", np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32))]
    score_sources(ScoringOptions(), SideSource("a", warm), SideSource("b", warm), FreshGraphs(), ignore_progress)
    language, vision = range(len(LANGUAGE)), range(len(LANGUAGE), len(LANGUAGE) + len(VISION))
    before = _peak_mb()
    began = time.process_time()
    document, seconds, seen = run(folder, language, vision)
    cpu_s = time.process_time() - began
    best = [cell.value for cell in document.matrices[0].cells if cell.value is not None]
    return {
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu_s, 1),
        "first_cell_s": round(seen[0], 2),
        "first_row_s": round(seen[len(VISION) - 1], 2),
        "later_row_s": round(median(np.diff(seen[len(VISION) - 1 :: len(VISION)])), 2),
        "peak_mb": round(_peak_mb()),
        "peak_before_mb": round(before),
        "stages_s": document.timings_s,
        "graphs": document.graphs.model_dump() if document.graphs else None,
        "value_range": [round(min(best), 4), round(max(best), 4)],
        "p_holm_max": max(cell.p_holm or 0.0 for cell in document.matrices[0].cells),
    }


def measure_again(folder: str) -> dict[str, object]:
    """Measure the same study with its cells stored, then with one more language model."""
    language, vision = range(len(LANGUAGE)), range(len(LANGUAGE), len(LANGUAGE) + len(VISION))
    known, seconds, _ = run(folder, language, vision)
    more, added, _ = run(folder, [*language, len(LANGUAGE) + len(VISION)], vision)
    return {
        "known_s": round(seconds, 2),
        "cells_reused": known.cells_reused,
        "one_more_s": round(added, 2),
        "of_which_known": more.cells_reused,
        "graphs": more.graphs.model_dump() if more.graphs else None,
    }


def measure_dense(_folder: str) -> dict[str, object]:
    """Seconds of a layer pair by the dense method, the mean over pairs drawn at random as the grid has them."""
    rng = np.random.default_rng(1)
    dims = [[dim for layers, dim in models for _ in range(layers)] for models in (LANGUAGE, VISION)]
    dense.mutual_knn(torch.randn(N, 64), torch.randn(N, 64), K)
    seconds = cpu_s = 0.0
    for _ in range(SAMPLE):
        a, b = (torch.nn.functional.normalize(torch.randn(N, int(rng.choice(side)))) for side in dims)
        started, began = time.perf_counter(), time.process_time()
        dense.mutual_knn(a, b, K)
        seconds, cpu_s = seconds + time.perf_counter() - started, cpu_s + time.process_time() - began
    return {"seconds": seconds / SAMPLE, "cpu_s": cpu_s / SAMPLE}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parts = {"store": store_models, "study": measure_study, "again": measure_again, "dense": measure_dense}
    print(json.dumps(parts[sys.argv[1]](sys.argv[2])))
