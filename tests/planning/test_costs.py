"""No job uses more memory than planned: each runs in a process of its own, measured by the kernel."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilience.contract.alignments import ScoringOptions
from consilience.contract.search import Estimate
from consilience.numerics.knn import graph_tasks, symmetric
from consilience.planning.alignments import CostLimits, SideShape, plan
from consilience.planning.neighbour_costs import (
    expect_queries,
    held_rows,
)
from consilience.planning.work import LayerGrid

SCRIPT = """
import json, sys
from pathlib import Path
from consilience.scoring import score
a, b, options = sys.argv[1:]
found = score(a, b, **json.loads(options)).scores
(line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(json.dumps({"peak": int(line.split()[1]) * 1024, "values": [entry.value for entry in found]}))
"""


def run(folder: Path, n: int, dim: int, options: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Score in a new process and return its measurements and its plan."""
    rng = np.random.default_rng(0)
    paths = folder / "a.npy", folder / "b.npy"
    shared = rng.standard_normal((n, 4), np.float32)
    for path in paths:
        rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n, dim))
        mixing = rng.standard_normal((4, dim), np.float32)
        for start in range(0, n, 4096):
            part = shared[start : start + 4096]
            rows[start : start + 4096] = part @ mixing + rng.random((len(part), dim), np.float32)
    command = [sys.executable, "-c", SCRIPT, *map(str, paths), json.dumps(options)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    shape = SideShape(n, (("0", dim),))
    planned = plan(ScoringOptions.model_validate(options), shape, shape, CostLimits(bytes=16 * 10**9))
    return json.loads(ran.stdout), planned


def test_a_pair_of_layers_larger_than_the_budget_is_scored_within_it(tmp_path: Path) -> None:
    budget = 512_000_000
    options = {"metrics": "cka", "interval": None, "memory_budget_bytes": budget}
    measured, planned = run(tmp_path, 140_000, 256, options)
    assert budget < 4 * 140_000 * 256 * 2 + 250_000_000
    assert planned.streamed
    assert measured["peak"] < planned.bytes <= budget
    assert measured["values"][0] > 0.1


@pytest.mark.parametrize(
    ("n", "dim", "options"),
    [
        (3000, 64, {"metrics": ["mutual_knn", "cknna", "cka"]}),
        (3000, 64, {"metrics": ["distance_correlation", "rsa"], "null": {"method": "none"}}),
        (8000, 64, {"metrics": ["procrustes", "linear_predictivity"], "null": {"method": "none"}}),
    ],
)
def test_no_job_takes_more_memory_than_planned(tmp_path: Path, n: int, dim: int, options: dict[str, Any]) -> None:
    measured, planned = run(tmp_path, n, dim, options)
    assert measured["peak"] <= planned.bytes


def test_the_planned_rows_of_a_tiled_graph_bound_those_of_its_tasks() -> None:
    options = ScoringOptions.model_validate({"metrics": "mutual_knn", "memory_budget_bytes": 3_500_000_000})
    shape = SideShape(1_000_000, (("0", 768),))
    assert plan(options, shape, shape, CostLimits(flops=math.inf, seconds=math.inf)).streamed
    grid = LayerGrid(1_000_000, (768,), (768,))
    most = max(len({block for pair in part for block in pair}) for part in graph_tasks.split_pairs(grid.n, 768))
    edges = symmetric.block_edges(grid.n)
    assert most * (edges[1] + 1) <= held_rows(options, grid) < grid.n / 20


def test_the_expected_number_of_queries_follows_from_the_width() -> None:
    assert expect_queries(Estimate(queries=500), 10_000) == 500
    assert expect_queries(Estimate(queries=500), 300) == 300
    assert expect_queries(Estimate(half_width=0.005), 10**9) == pytest.approx((1.96 * 0.15 / 0.005) ** 2, rel=1e-3)
    assert expect_queries(Estimate(half_width=0.005), 10**9, 0.5) == pytest.approx((1.96 * 100) ** 2, rel=1e-3)
    assert expect_queries(Estimate(half_width=1e-6), 5000) == 5000
