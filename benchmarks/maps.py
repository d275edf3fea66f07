"""Maps at scale: fits on a million rows of float16 on disk, and translation against one matrix product of the same size.

Each fit runs in a process of its own, so that its peak of resident memory is its own.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

N, DIM_A, DIM_B = 1_000_000, 768, 1024
RANK, STEP = 128, 8192
APPLIED_N = 65_536
ROUNDS = 9


def measure(n: int = N) -> dict[str, object]:
    """Ridge and Procrustes on n rows, and how fast a map translates."""
    with tempfile.TemporaryDirectory(dir="out" if Path("out").is_dir() else None) as folder:
        write_sides(Path(folder), n)
        fits = {kind: _run("fit", folder, kind) for kind in ("procrustes", "ridge")}
    return {
        "cores": len(os.sched_getaffinity(0)),
        "n": n,
        "dims": [DIM_A, DIM_B],
        "fit": fits,
        "apply": _run("apply"),
    }


def write_sides(folder: Path, n: int) -> None:
    """Two files of n rows that share a latent, as float16, block by block."""
    for side, dim, seed in (("a", DIM_A, 1), ("b", DIM_B, 2)):
        mixing = np.random.default_rng(seed).normal(size=(RANK, dim)).astype(np.float32)
        with (folder / f"{side}.npy").open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": (n, dim)}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, n, STEP):
                count = min(STEP, n - start)
                latent = np.random.default_rng((0, start)).standard_normal((count, RANK), dtype=np.float32)
                noise = np.random.default_rng((seed, start)).standard_normal((count, dim), dtype=np.float32)
                file.write((latent @ mixing + 6 * noise).astype(np.float16).data)


def measure_fit(folder: str, kind: str) -> dict[str, object]:
    """Measure the seconds from two files to an evaluated map, and the process's peak of resident memory."""
    from consilience.maps.api import fit_map

    started = time.perf_counter()
    found = fit_map(Path(folder, "a.npy"), Path(folder, "b.npy"), map=kind)
    seconds, card = time.perf_counter() - started, found.card
    return {
        "seconds": round(seconds, 1),
        "cpu_s": round(time.process_time(), 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "stages_s": card.timings_s,
        "fitted": card.fitted.model_dump(exclude_none=True),
        "cosine": round(card.evaluation.cosine, 4),
        "r2": round(card.evaluation.r2 or 0.0, 4),
        "recall_at_1": card.evaluation.forward.recall[1].model_dump(),
    }


def measure_apply() -> dict[str, object]:
    """Rows a second of a linear map, in turns with one product of the same size."""
    from consilience.maps.api import fit_map

    rng = np.random.default_rng(0)
    few = rng.standard_normal((4096, DIM_A), dtype=np.float32)
    weights = rng.standard_normal((DIM_A, DIM_B), dtype=np.float32)
    rows = rng.standard_normal((APPLIED_N, DIM_A), dtype=np.float32)
    found: dict[str, object] = {"n": APPLIED_N}
    for preparation in ("none", "l2"):
        map_ = fit_map(few, few @ weights, preparation=preparation)
        map_.apply(rows)
        products, applied = [], []
        for _ in range(ROUNDS):
            products.append(_time(lambda: rows @ weights))
            applied.append(_time(lambda found=map_: found.apply(rows)))  # type: ignore[misc]  # bound at once
        found[preparation] = {
            "product_s": round(median(products), 4),
            "apply_s": round(median(applied), 4),
            "share": round(median(p / a for p, a in zip(products, applied, strict=True)), 3),
        }
    return found


def _time(task: Callable[[], object]) -> float:
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def _run(part: str, *more: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.maps", part, *more], check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(done.stdout))


PARTS: dict[str, Callable[..., dict[str, object]]] = {"fit": measure_fit, "apply": measure_apply}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](*sys.argv[2:])))
