"""What a job reads ahead is what the last one of its name read, and never anything else than what is kept."""

from pathlib import Path

import pytest

from consilience.execution.alignment import Ahead, concerns_any
from consilience.stores.graph_cache import Graphs


@pytest.fixture
def graphs(tmp_path: Path) -> Graphs:
    return Graphs(tmp_path, 2**20)


def put(store: Graphs, address: str, data: bytes) -> None:
    with store.claim(address, lambda: None) as keep:
        keep(lambda file: file.write(data))


def read(graphs: Graphs, name: str = "a name") -> dict[str, bytes | None]:
    with Ahead(graphs, name, concerns_any(["abc", "def"])) as ahead:
        return {
            "graph": ahead.take("graphs", "graph of abc"),
            "matrix": ahead.take("matrices", "matrix of def"),
            "other": ahead.take("facts", "fact of xyz"),
        }


def test_the_second_job_of_a_name_finds_what_the_first_read(graphs: Graphs) -> None:
    put(graphs, "graph of abc", b"graph")
    put(graphs.matrices, "matrix of def", b"matrix")
    put(graphs.facts, "fact of xyz", b"fact")

    assert read(graphs) == {"graph": None, "matrix": None, "other": None}
    assert read(graphs) == {"graph": b"graph", "matrix": b"matrix", "other": None}
    assert read(graphs, "another name") == {"graph": None, "matrix": None, "other": None}


def test_what_has_gone_meanwhile_or_is_damaged_is_not_there(graphs: Graphs, tmp_path: Path) -> None:
    put(graphs, "graph of abc", b"graph")
    put(graphs.matrices, "matrix of def", b"matrix")
    read(graphs)
    (matrix,) = (tmp_path / "matrices").glob("??/*")
    matrix.write_bytes(matrix.read_bytes()[:-1] + b"X")
    (graph,) = (tmp_path / "graphs").glob("??/*")
    graph.unlink()

    assert read(graphs) == {"graph": None, "matrix": None, "other": None}


def test_a_cache_that_is_off_is_asked_for_nothing(tmp_path: Path) -> None:
    off = Graphs(tmp_path, 0)
    assert read(off) == read(off) == {"graph": None, "matrix": None, "other": None}
    assert not (tmp_path / "facts").exists()
