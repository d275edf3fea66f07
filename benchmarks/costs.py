"""Measured cost of requests, compared with their plans: seconds and peak memory, each request in a process of its own.

    python benchmarks/costs.py [--out FILE] [NAME ...]

Run it on a quiet machine after a change of the engine, and correct the unit costs in `consilience/planning/work.py`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from consilience.contract.alignments import ScoringOptions
from consilience.planning.alignments import CostLimits, SideShape, plan
from consilience.scoring import score

NO_NULL: dict[str, Any] = {"null": {"method": "none"}}
BUDGET = 16_000_000_000
#: Name: rows, columns, layers, options.
REQUESTS: dict[str, tuple[int, int, int, dict[str, Any]]] = {
    "default-1k": (1000, 128, 1, {}),
    "grid-1k": (1000, 256, 6, {"layers": "all"}),
    "mutual-20k": (20_000, 256, 1, {"metrics": "mutual_knn"}),
    "estimate-50k": (50_000, 256, 1, {"metrics": "mutual_knn", "estimate": {"half_width": 0.005}}),
    "cka-20k": (20_000, 512, 1, {"metrics": "cka"}),
    "cka-100k": (100_000, 512, 1, {"metrics": "cka"}),
    "cka-100k-streamed": (100_000, 512, 1, {"metrics": "cka", "memory_budget_bytes": 700_000_000}),
    "cka-draws-2k": (2000, 256, 1, {"metrics": "cka", "null": {"method": "permutation"}}),
    "rbf-4k": (4000, 128, 1, {"metrics": {"metric": "cka", "kernel": "rbf"}}),
    "distances-8k": (8000, 128, 1, {"metrics": "distance_correlation"}),
    "rsa-3k": (3000, 128, 1, {"metrics": "rsa"}),
    "rsa-30k": (30_000, 128, 1, {"metrics": "rsa"}),
    "procrustes-2k": (2000, 128, 1, {"metrics": "procrustes"}),
    "cca-20k": (20_000, 256, 1, {"metrics": "cca_mean", **NO_NULL}),
    "cca-50k-streamed": (
        50_000,
        256,
        1,
        {"metrics": ["cca_mean", "gulp"], "memory_budget_bytes": 512_000_000, **NO_NULL},
    ),
    "svcca-50k": (50_000, 256, 1, {"metrics": "svcca", **NO_NULL}),
    "ridge-10k": (10_000, 128, 1, {"metrics": "linear_predictivity", **NO_NULL}),
    "ridge-50k-streamed": (
        50_000,
        128,
        1,
        {"metrics": "linear_predictivity", "memory_budget_bytes": 512_000_000, **NO_NULL},
    ),
    "neighbours-5k": (5000, 128, 1, {"metrics": ["cknna", "second_order_cosine", "cycle_knn"], **NO_NULL}),
}


def write_sides(folder: Path, n: int, dim: int, layers: int) -> tuple[Path, Path]:
    """Two sides that share some directions, as float16."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(n, 8)).astype(np.float32)
    paths = folder / "a.npy", folder / "b.npy"
    for path in paths:
        out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n, layers, dim))
        for layer in range(layers):
            mixing = rng.normal(size=(8, dim)).astype(np.float32)
            for start in range(0, n, 8192):
                rows = shared[start : start + 8192]
                out[start : start + 8192, layer] = rows @ mixing + 2 * rng.standard_normal((len(rows), dim), np.float32)
    return paths


def find_peak() -> int:
    """Peak resident bytes of this process alone: what getrusage says was its parent's, where that had more."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def run_one(name: str, folder: Path) -> None:
    """Score one request in this process and print what it took."""
    fields = {"memory_budget_bytes": BUDGET} | REQUESTS[name][3]
    start = time.perf_counter()
    document = score(folder / "a.npy", folder / "b.npy", **fields)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "seconds": round(seconds, 2),
                "cpu_s": round(used.ru_utime + used.ru_stime, 2),
                "bytes": find_peak(),
                "values": [entry.value for entry in document.scores],
                "timings_s": document.timings_s,
            }
        )
    )


def compare(name: str) -> dict[str, Any]:
    """One request's plan beside its cost."""
    n, dim, layers, fields = REQUESTS[name]
    options = ScoringOptions.model_validate({"memory_budget_bytes": BUDGET} | fields)
    shape = SideShape(n, tuple((str(layer), dim) for layer in range(layers)))
    planned = plan(options, shape, shape, CostLimits(bytes=BUDGET))
    with tempfile.TemporaryDirectory() as folder:
        write_sides(Path(folder), n, dim, layers)
        command = [sys.executable, __file__, "--one", folder, name]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
    measured = json.loads(ran.stdout)
    return {
        "name": name,
        "planned_s": planned.seconds,
        "measured_s": measured["seconds"],
        "seconds_ratio": round(planned.seconds / measured["seconds"], 2),
        "planned_mb": planned.bytes // 10**6,
        "measured_mb": measured["bytes"] // 10**6,
        "bytes_ratio": round(planned.bytes / measured["bytes"], 2),
        "streamed": planned.streamed,
        "cpu_s": measured["cpu_s"],
    }


def main() -> None:
    """Compare all requests, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.one:
        run_one(arguments.names[0], arguments.one)
        return
    rows = []
    for name in arguments.names or REQUESTS:
        rows.append(compare(name))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
