"""Growth of cost: a million rows under a budget, every metric from a thousand rows up, a second score on cached graphs.

Each measurement runs in a process of its own, so that its peak of resident memory is its own. Stored layers are float16 in a
blob store on disk, as the service has them.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from consilience.contract.alignments import ScoringOptions
from consilience.contract.embeddings import Layer
from consilience.contract.metric import NeighbourMetric
from consilience.contract.metrics import METRICS
from consilience.errors import TooExpensive
from consilience.execution.alignment import CachedGraphs
from consilience.formats.open_file import LayerHeader, OpenFile, Tensor
from consilience.metrics.graph_sources import FreshGraphs, GraphSource
from consilience.numerics.rows.sources import SelectedLayer, SideSource
from consilience.scoring import ignore_progress, score_sources
from consilience.stores.blobs import BlobStore
from consilience.stores.graph_cache import DiskCache

DIM = 768
MILLION = 1_000_000
#: What the million rows may take of memory, at most.
BUDGET_BYTES = 2_500_000_000
CACHED_N = 65_536
GRAPHS_BYTES = 2_000_000_000
GROWTH_N = (1_000, 10_000, 30_000, 100_000, 1_000_000)
#: What exact graphs of the million rows may take of memory: in bfloat16, with all rows of a layer at hand.
EXACT_BYTES = 9_000_000_000
#: A metric is not measured at a size that would take more seconds of one core.
PATIENCE_S = 150.0
VALUES = {"null": {"method": "none"}, "interval": None}
ESTIMATE = {"half_width": 0.005}


def measure() -> dict[str, object]:
    """All figures, each in a process of its own."""
    with tempfile.TemporaryDirectory(dir="out" if Path("out").is_dir() else None) as folder:
        store_rows(Path(folder), MILLION)
        return {
            "cores": len(os.sched_getaffinity(0)),
            "dim": DIM,
            "million": _run("million", folder),
            "cached": _run("cached", folder),
            "growth": _measure_growth(folder),
        }


def store_rows(folder: Path, n: int) -> None:
    """Put two sides of n rows that share a latent into a blob store, as float16, block by block."""
    blobs = BlobStore(folder)
    for side, seed in (("a", 1), ("b", 2)):
        tensor = Tensor("0", (n, DIM), np.dtype("<f2"), partial(_make_rows, n, seed))
        (layer,) = blobs.put(OpenFile((LayerHeader("0", n, DIM, "F16"),), (tensor,)))
        (folder / f"{side}.json").write_text(layer.model_dump_json())


def _make_rows(n: int, seed: int) -> Iterator[np.ndarray]:
    step, rank = 8192, 64
    mixing = np.random.default_rng(seed).normal(size=(rank, DIM)).astype(np.float32)
    for start in range(0, n, step):
        count = min(step, n - start)
        latent = np.random.default_rng((0, start)).normal(size=(count, rank)).astype(np.float32)
        noise = np.random.default_rng((seed, start)).standard_normal((count, DIM), dtype=np.float32)
        yield (latent @ mixing + 4 * noise).astype(np.float16)


def open_sides(folder: str, n: int) -> list[SideSource]:
    """Return the first n rows of both sides."""
    blobs = BlobStore(Path(folder))
    sides = []
    for side in "ab":
        layer = blobs.open(Layer.model_validate_json(Path(folder, f"{side}.json").read_text()), MILLION)
        sides.append(SideSource(side, [SelectedLayer(layer, np.arange(n)) if n < MILLION else layer]))
    return sides


def score_stored(folder: str, n: int, graphs: GraphSource | None = None, **options: Any) -> tuple[float, Any]:
    """Seconds and document of a score of the first n rows."""
    chosen = ScoringOptions.model_validate(options)
    started = time.perf_counter()
    document = score_sources(chosen, *open_sides(folder, n), graphs or FreshGraphs(), ignore_progress)
    return time.perf_counter() - started, document


def measure_million(folder: str) -> dict[str, object]:
    """mutual_knn to half a hundredth, and debiased cka with null and interval, of a million rows."""
    seconds, document = score_stored(
        folder, MILLION, metrics=["mutual_knn", "cka"], estimate=ESTIMATE, memory_budget_bytes=BUDGET_BYTES
    )
    scores = [entry.model_dump(mode="json", exclude={"grid"}) for entry in document.scores]
    return {
        "n": MILLION,
        "seconds": round(seconds, 1),
        "peak_mb": _peak_mb(),
        "stages_s": document.timings_s,
        "scores": scores,
    }


def measure_cached(folder: str) -> dict[str, object]:
    """Measure the first score at n = 65536, and the same score with both graphs in the store."""
    graphs = CachedGraphs(DiskCache(Path(folder), GRAPHS_BYTES), ignore_progress)
    score_stored(folder, 1000, metrics="mutual_knn")
    first, _ = score_stored(folder, CACHED_N, graphs, metrics="mutual_knn")
    again, document = score_stored(folder, CACHED_N, graphs, metrics="mutual_knn")
    return {
        "n": CACHED_N,
        "first_s": round(first, 2),
        "again_s": round(again, 3),
        "share": round(again / first, 4),
        "cache": document.scores[0].neighbours.cache,
        "stages_s": document.timings_s,
    }


def _measure_growth(folder: str) -> dict[str, object]:
    """Seconds and peak memory of every metric by n, up to what patience allows, with the exponent of the last doubling."""
    found: dict[str, object] = {}
    for name in subjects():
        points: list[dict[str, float]] = []
        for n in GROWTH_N:
            if points and _foresee(points, n) > PATIENCE_S:
                break
            point = _run("grow", folder, name, str(n))
            if "refused" in point:
                break
            points.append(point)
        found[name] = {"points": points, **fit(points)}
        print(f"  {name}: {points[-1]}", flush=True)
    return found


def subjects() -> dict[str, dict[str, Any]]:
    """Every metric of the catalogue with its defaults; neighbour metrics also estimated."""
    plain = {name: {"metrics": name, **VALUES} for name in METRICS}
    estimated = {
        f"{name}, 2000 queries": {"metrics": name, "estimate": {"queries": 2000}, "null": {"method": "none"}}
        for name, metric in METRICS.items()
        if issubclass(metric, NeighbourMetric)
    }
    return plain | estimated


def measure_growth_point(folder: str, name: str, n: str) -> dict[str, object]:
    """One metric at one size, after a small run that loads what there is to load."""
    options = subjects()[name]
    score_stored(folder, 1000, **options)
    used = time.process_time()
    try:
        seconds, document = score_stored(folder, int(n), memory_budget_bytes=BUDGET_BYTES, **options)
    except TooExpensive as error:
        return {"n": int(n), "refused": str(error)}
    used = time.process_time() - used
    entry = document.scores[0]
    return {
        "n": int(n),
        "seconds": round(seconds, 4),
        "cpu_s": round(used, 4),
        "peak_mb": _peak_mb(),
        "value": entry.value,
        "queries": entry.queries,
    }


def measure_exact(folder: str, *names: str) -> dict[str, object]:
    """Exact neighbour metrics of a million rows: both graphs built once, then every metric from the kept ones."""
    found: dict[str, object] = {"graphs": _run("kept", folder, "mutual_knn")}
    for name in names or [name for name, metric in METRICS.items() if issubclass(metric, NeighbourMetric)]:
        found[name] = _run("kept", folder, name)
        print(f"  {name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def measure_kept(folder: str, name: str) -> dict[str, object]:
    """One metric of a million rows; its graphs are built where they are not kept yet."""
    graphs = CachedGraphs(DiskCache(Path(folder), GRAPHS_BYTES), ignore_progress)
    used = time.process_time()
    seconds, document = score_stored(folder, MILLION, graphs, metrics=name, memory_budget_bytes=EXACT_BYTES, **VALUES)
    neighbours = document.scores[0].neighbours
    return {
        "n": MILLION,
        "seconds": round(seconds, 2),
        "cpu_s": round(time.process_time() - used, 2),
        "peak_mb": _peak_mb(),
        "value": document.scores[0].value,
        "builder": neighbours.builder,
        "verified": neighbours.verified,
        "cache": neighbours.cache,
    }


def _foresee(points: list[dict[str, float]], n: int) -> float:
    """Seconds at n by the worst growth, n^2, of the last point's."""
    last = points[-1]
    exponent = min(2.0, max(1.0, fit(points)["exponent"] or 1.0)) if len(points) > 2 else 1.0
    return last["cpu_s"] * (n / last["n"]) ** exponent


def fit(points: list[dict[str, float]]) -> dict[str, float | None]:
    """Slopes of log cpu seconds and log memory over log n, of the last three points that take a tenth of a second."""
    slow = [point for point in points if point["cpu_s"] >= 0.1][-3:]
    if len(slow) < 2:
        return {"exponent": None, "memory_exponent": None}
    size, seconds, memory = (np.log([point[key] for point in slow]) for key in ("n", "cpu_s", "peak_mb"))
    return {
        "exponent": round(float(np.polyfit(size, seconds, 1)[0]), 2),
        "memory_exponent": round(float(np.polyfit(size, memory, 1)[0]), 2),
    }


def _run(part: str, folder: str, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale", part, folder, *more]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


PARTS: dict[str, Callable[..., dict[str, object]]] = {
    "million": measure_million,
    "cached": measure_cached,
    "grow": measure_growth_point,
    "exact": measure_exact,
    "kept": measure_kept,
}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](*sys.argv[2:])))
