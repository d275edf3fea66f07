"""Prefetch of the cache entries that an earlier job of the same name read."""

from pathlib import Path

import pytest

from consilience.execution.alignment import Prefetcher, mentions_any
from consilience.stores.graph_cache import DiskCache


@pytest.fixture
def graphs(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path, 2**20)


def put(store: DiskCache, address: str, data: bytes) -> None:
    with store.claim(address, lambda: None) as keep:
        keep(lambda file: file.write(data))


def read(graphs: DiskCache, name: str = "a name") -> dict[str, bytes | None]:
    with Prefetcher(graphs, name, mentions_any(["abc", "def"])) as prefetcher:
        return {
            "graph": prefetcher.take("graphs", "graph of abc"),
            "matrix": prefetcher.take("matrices", "matrix of def"),
            "other": prefetcher.take("facts", "fact of xyz"),
        }


def test_the_second_job_of_a_name_finds_what_the_first_read(graphs: DiskCache) -> None:
    put(graphs, "graph of abc", b"graph")
    put(graphs.matrices, "matrix of def", b"matrix")
    put(graphs.facts, "fact of xyz", b"fact")

    assert read(graphs) == {"graph": None, "matrix": None, "other": None}
    assert read(graphs) == {"graph": b"graph", "matrix": b"matrix", "other": None}
    assert read(graphs, "another name") == {"graph": None, "matrix": None, "other": None}


def test_missing_and_damaged_entries_are_not_prefetched(graphs: DiskCache, tmp_path: Path) -> None:
    put(graphs, "graph of abc", b"graph")
    put(graphs.matrices, "matrix of def", b"matrix")
    read(graphs)
    (matrix,) = (tmp_path / "matrices").glob("??/*")
    matrix.write_bytes(matrix.read_bytes()[:-1] + b"X")
    (graph,) = (tmp_path / "graphs").glob("??/*")
    graph.unlink()

    assert read(graphs) == {"graph": None, "matrix": None, "other": None}


def test_a_disabled_cache_prefetches_nothing(tmp_path: Path) -> None:
    off = DiskCache(tmp_path, 0)
    assert read(off) == read(off) == {"graph": None, "matrix": None, "other": None}
    assert not (tmp_path / "facts").exists()
