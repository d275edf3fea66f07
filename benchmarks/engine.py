"""The engine against a dense textbook implementation (`dense`) and against one matrix product of the same size.

Values only unless said, in warm processes, with as many threads as there are cores. Both sides of every ratio are measured in
one run, each in a process of its own, so that the peak of resident memory is its own.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

import numpy as np

N, DIM, K = 8192, 768, 10
GRID_N, GRID_LAYERS, GRID_DRAWS = 1024, 7, 200
SWEEP_N = 4096
SWEEP = tuple(range(10, 101, 10))
LISTS = ("jaccard_knn", "rank_similarity", "lcs_knn", "edit_distance_knn", "second_order_cosine", "cycle_knn", "cknna")
ROUNDS = 5
EIGHT = [
    "mutual_knn",
    "cycle_knn",
    "lcs_knn",
    "edit_distance_knn",
    {"metric": "cka", "debiased": False},
    "cka",
    "cknna",
    "svcca",
]
VALUES = {"null": {"method": "none"}, "interval": None}


def measure() -> dict[str, object]:
    """All figures, each part in processes of its own."""
    with tempfile.TemporaryDirectory() as folder:
        for side, rows in zip("ab", _views(N, 1), strict=True):
            np.save(f"{folder}/{side}.npy", rows[:, 0])
        for side, rows in zip("ab", _views(1024, 1), strict=True):
            np.save(f"{folder}/small_{side}.npy", rows[:, 0])
        eight = {"n": N, "dim": DIM, "k": K, "engine": _part("eight", folder), "dense": _part("dense", folder)}
        return {
            "cores": len(os.sched_getaffinity(0)),
            "eight_metrics": eight | {"times_faster": _times(eight["dense"]["seconds"], eight["engine"]["seconds"])},
            "grid": _part("grid", folder),
            "k_sweep": _part("sweep", folder),
            "command": _measure_command(folder),
        }


def _views(n: int, layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sides of some layers that share a latent of all dimensions, float32."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(n, 1, DIM))
    a, b = ((latent + rng.normal(size=(n, layers, DIM))).astype(np.float32) for _ in range(2))
    return a, b


def _part(name: str, folder: str) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.engine", name, folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def _times(slow: object, fast: object) -> float:
    return round(float(slow) / float(fast), 1)  # type: ignore[arg-type]  # both are seconds


def _time(task: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median seconds, after one run that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_eight(folder: str) -> dict[str, object]:
    """Measure the eight metrics at once: seconds by stage, relative to a product of the rows, and peak memory."""
    from consilience.scoring import score

    small = [np.load(f"{folder}/small_{side}.npy") for side in "ab"]
    score(*small, metrics=EIGHT, **VALUES)
    a, b = (np.load(f"{folder}/{side}.npy") for side in "ab")
    inputs = _peak_mb()
    document = score(a, b, metrics=EIGHT, **VALUES)
    peak = _peak_mb() - inputs
    seconds = _time(lambda: score(a, b, metrics=EIGHT, **VALUES))
    product = _time(lambda: a @ b.T)
    return {
        "seconds": round(seconds, 3),
        "stages_s": document.timings_s,
        "product_s": round(product, 3),
        "in_products": round(seconds / product, 1),
        "peak_above_inputs_mb": round(peak),
        "values": [round(entry.value, 6) for entry in document.scores if entry.value is not None],
    }


def measure_dense(folder: str) -> dict[str, object]:
    """Measure the same with the textbook code, once: it takes minutes."""
    import torch

    from benchmarks import dense

    a, b = (torch.nn.functional.normalize(torch.from_numpy(np.load(f"{folder}/{side}.npy"))) for side in "ab")
    dense.measure(a[:512], b[:512], K)
    inputs = _peak_mb()
    found = dense.measure(a, b, K)
    return {
        "seconds": round(sum(seconds for _, seconds in found.values()), 2),
        "seconds_by_metric": {name: round(seconds, 2) for name, (_, seconds) in found.items()},
        "peak_above_inputs_mb": round(_peak_mb() - inputs),
        "values": [round(value, 6) for value, _ in found.values()],
    }


def measure_grid(_folder: str) -> dict[str, object]:
    """mutual_knn of 7 x 7 layers with its null of the maximum, against one textbook call for each cell and draw."""
    import torch

    from benchmarks import dense
    from consilience.scoring import score

    a, b = _views(GRID_N, GRID_LAYERS)
    options = {"null": {"method": "permutation", "permutations": GRID_DRAWS}, "interval": None, "layers": "all"}
    seconds = _time(lambda: score(a, b, metrics="mutual_knn", **options))
    x, y = (torch.nn.functional.normalize(torch.from_numpy(side[:, 0])) for side in (a, b))
    call = _time(lambda: dense.mutual_knn(x, y, K), rounds=20)
    calls = GRID_LAYERS**2 * (GRID_DRAWS + 1)
    return {
        "n": GRID_N,
        "layers": GRID_LAYERS,
        "draws": GRID_DRAWS,
        "seconds": round(seconds, 3),
        "dense_call_s": round(call, 4),
        "dense_calls": calls,
        "times_faster": _times(call * calls, seconds),
    }


def measure_sweep(_folder: str) -> dict[str, object]:
    """Ten values of k at once against the largest alone."""
    from consilience.scoring import score

    a, b = _views(SWEEP_N, 1)

    def take(metric: str, k: object) -> float:
        return _time(lambda: score(a, b, metrics={"metric": metric, "k": k}, **VALUES), rounds=3)

    found = {}
    for metric in ("mutual_knn", *LISTS):
        alone, sweep = take(metric, SWEEP[-1]), take(metric, SWEEP)
        found[metric] = {"largest_s": round(alone, 3), "sweep_s": round(sweep, 3), "ratio": round(sweep / alone, 2)}
    return {"n": SWEEP_N, "dim": DIM, "k": list(SWEEP), **found}


def _measure_command(folder: str) -> dict[str, object]:
    """From the start of the process to its end: the command on two files, and importing the package."""
    files = [f"{folder}/small_{side}.npy" for side in "ab"]
    score = [sys.executable, "-m", "consilience.cli", "score", *files, "--json"]
    bare, light = [sys.executable, "-c", "pass"], [sys.executable, "-c", "import consilience"]
    run = {name: _time(lambda c=c: _run(c)) for name, c in (("score", score), ("bare", bare), ("light", light))}  # type: ignore[misc]  # bound at once
    return {
        "n": 1024,
        "dim": DIM,
        "score_s": round(run["score"], 2),
        "import_ms": round((run["light"] - run["bare"]) * 1000, 1),
    }


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


PARTS: dict[str, Callable[[str], dict[str, object]]] = {
    "eight": measure_eight,
    "dense": measure_dense,
    "grid": measure_grid,
    "sweep": measure_sweep,
}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](sys.argv[2])))
