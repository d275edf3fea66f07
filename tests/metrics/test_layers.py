"""Key of a stored graph: everything that changes a row, or which rows may be neighbours, changes the key."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilience.execution.alignment import CachedGraphs
from consilience.metrics.sides import PreparedSide
from consilience.numerics.rows.sources import ArrayLayer
from consilience.scoring import ignore_progress
from consilience.stores.graph_cache import DiskCache

ROWS = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32) + 1
PLAIN: dict[str, Any] = {"clamps": [None], "centre": False, "normalise": True, "groups": None}
OTHERS: dict[str, dict[str, Any]] = {
    "clamp": {"clamps": [0.9]},
    "centre": {"centre": True},
    "length": {"normalise": False},
    "groups": {"groups": np.arange(60, dtype=np.int32) // 4},
}


def open_side(folder: Path, rows: np.ndarray = ROWS, **changed: Any) -> PreparedSide:
    cached = CachedGraphs(DiskCache(folder, 10**8), ignore_progress)
    return PreparedSide([ArrayLayer("0", rows)], source=cached, **PLAIN | changed)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_preparation_or_grouping_has_another_graph(tmp_path: Path, other: dict[str, Any]) -> None:
    graph, _ = open_side(tmp_path).graphs.find(0, 5)
    changed, hit = open_side(tmp_path, **other).graphs.find(0, 5)
    assert not hit
    assert (changed.ids != graph.ids).any()
    assert open_side(tmp_path).graphs.find(0, 5)[1]
    assert open_side(tmp_path, **other).graphs.find(0, 5)[1]


def test_other_rows_have_another_graph(tmp_path: Path) -> None:
    open_side(tmp_path).graphs.find(0, 5)
    assert not open_side(tmp_path, ROWS + 1).graphs.find(0, 5)[1]
