import subprocess
import sys

import numpy as np
import pytest

from consilience.numerics.knn import build
from consilience.numerics.knn.build import ExactBuilder, build_graph, choose_builder
from consilience.numerics.knn.graph import NeighbourGraph
from tests.reference_implementations import basic

X = basic.unit_rows(np.random.default_rng(0).normal(size=(400, 32))).astype(np.float32)


@pytest.mark.parametrize(
    ("builder", "name"), [("faiss", "faiss_flat"), ("symmetric", "symmetric"), ("verified_bf16", "verified_bf16")]
)
def test_a_builder_can_be_requested_and_the_graph_names_it(builder: ExactBuilder, name: str) -> None:
    graph = build_graph(X, 10, builder=builder)
    np.testing.assert_array_equal(graph.ids, basic.neighbours(X, 10))
    assert graph.builder == name
    assert NeighbourGraph.from_bytes(graph.to_bytes()).builder == name


def test_a_few_rows_are_searched_by_faiss_and_many_by_tiles() -> None:
    assert choose_builder(50, 64) == "faiss"
    assert choose_builder(5000, 64) == "symmetric"


def test_faiss_is_chosen_if_tiles_cannot_keep_all_threads_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "count_threads", lambda: 64)
    assert choose_builder(5000, 64) == "faiss"
    assert choose_builder(500_000, 2) == "symmetric"


def test_float32_graphs_import_no_torch() -> None:
    code = (
        "import sys, numpy as np; from consilience.numerics.knn.build import build_graph;"
        "build_graph(np.eye(500, 8, dtype=np.float32), 5, builder='symmetric'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
