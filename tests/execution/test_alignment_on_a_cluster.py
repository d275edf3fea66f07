"""A score is the same to the last bit wherever its parts ran, and whoever died meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilience.contract.alignments import AlignmentRequest
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.scores import ScoreDocument
from consilience.execution.alignment import run_alignment
from consilience.execution.cluster import DaskExecutor
from consilience.formats.files import open_path
from consilience.numerics.rows.parallel import PART_VALUES, STEPS_MIN
from consilience.numerics.rows.prepared import PreparedRows, find_row_statistics
from consilience.stores.blobs import BlobStore, StoredLayer, set_digest
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.graph_cache import DiskCache
from tests.execution.clusters import Cluster

N, DIM, LAYERS = 3000, 576, 3
Report = Callable[[str, int, int], None]


@pytest.fixture(scope="module")
def rows() -> Any:
    """Every layer is worth the way to the cluster, and has ties."""
    rows = np.random.default_rng(0).standard_normal((LAYERS, N, DIM)).astype(np.float16)
    rows[:, 7] = rows[:, 1700]
    assert N**2 * DIM > STEPS_MIN
    return rows


@pytest.fixture
def add(sqlite_url: str, tmp_path: Path) -> Callable[..., EmbeddingSet]:
    """Stores a set under a name, with ids and groups."""

    def add(name: str, layers: Any, ids: Any) -> EmbeddingSet:
        np.savez(tmp_path / "upload.npz", **{f"layer{i}": layer for i, layer in enumerate(layers)})
        blobs, database = BlobStore(tmp_path / "data"), Database(sqlite_url)
        with open_path(tmp_path / "upload.npz") as file:
            stored = blobs.put(file)
        columns = {
            "ids": blobs.put_column([f"item {i}" for i in ids]),
            "groups": blobs.put_column([f"group {i // 3}" for i in ids]),
        }
        digest = set_digest(stored, *columns.values())
        found, _ = EmbeddingRecords(database).add(name, len(ids), stored, digest, {}, 1, **columns)
        database.close()
        return found

    return add


def ignore(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Pair:
    """Two stored sets, and how they are scored: without any graph in the cache."""

    a: EmbeddingSet
    b: EmbeddingSet
    data: Path
    options: dict[str, Any]

    def score(self, cluster: Cluster | None, report: Report = ignore) -> ScoreDocument:
        sides = {"a": {"embedding": self.a.id}, "b": {"embedding": self.b.id}}
        request = AlignmentRequest.model_validate({**sides, **self.options})
        blobs, graphs, address = BlobStore(self.data), DiskCache(self.data, 0), cluster and cluster.address
        found = run_alignment(request, self.a, self.b, blobs, graphs, report=report, cluster=address)
        return found.model_copy(update={"timings_s": {}})


@pytest.mark.parametrize("profile", ["l2", "centre_l2", "prh"])
def test_the_document_is_that_of_a_job_that_computed_all_by_itself(
    cluster: Cluster, rows: Any, add: Callable[..., EmbeddingSet], tmp_path: Path, profile: str
) -> None:
    turn = np.random.default_rng(1).permutation(N)
    a, b = add("a", rows[:1], range(N)), add("b", rows[1:2, turn], turn)
    options = {
        "metrics": ["mutual_knn", "cka"],
        "pairing": "id",
        "preparation": {"profile": profile},
        "null": {"method": "none"},
    }
    pair = Pair(a, b, tmp_path / "data", options)
    here = pair.score(None)
    assert pair.score(cluster) == here
    assert {score.status for score in here.scores} == {"defined"}


def test_bfloat16_search_on_a_cluster_gives_the_same_bits(
    cluster: Cluster, rows: Any, add: Callable[..., EmbeddingSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consilience.numerics.knn.graph_tasks.PART_STEPS", 1100.0**2 * DIM)
    a, b = add("a", rows[0][None], range(N)), add("b", rows[0][None] + rows[1][None], range(N))
    options = {"metrics": ["mutual_knn"], "builder": "verified_bf16", "interval": None}
    pair = Pair(a, b, tmp_path / "data", options)
    here = pair.score(None)
    assert pair.score(cluster) == here
    assert here.scores[0].neighbours is not None
    assert 0.9 < (here.scores[0].neighbours.verified or 0) <= 1


def test_queries_have_the_same_results_on_a_cluster(
    cluster: Cluster, rows: Any, add: Callable[..., EmbeddingSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consilience.metrics.estimated.STEPS_MIN", 0.0)
    monkeypatch.setattr("consilience.numerics.knn.queries.PART_STEPS", 1.0)
    monkeypatch.setattr("consilience.numerics.knn.queries.PART_BLOCKS", 1)
    monkeypatch.setattr("consilience.numerics.rows.parallel.BLOCK_VALUES", 700 * DIM)
    a, b = add("a", rows[0][None], range(N)), add("b", rows[0][None] + rows[1][None], range(N))
    options = {
        "metrics": ["mutual_knn", "cycle_knn", "cknna", "second_order_cosine"],
        "estimate": {"queries": 150},
        "gallery_sizes": [100, 1000, N],
    }
    pair = Pair(a, b, tmp_path / "data", options)
    here = pair.score(None)
    assert pair.score(cluster) == here
    assert {(score.estimator, len(score.gallery_curve or ())) for score in here.scores} == {("estimated", 3)}


def test_sums_over_many_rows_come_from_the_cluster_to_the_same_bits(cluster: Cluster, tmp_path: Path) -> None:
    n, dim = PART_VALUES // 64 + 5, 64
    few = np.random.default_rng(0).standard_normal((1 << 14, dim)).astype(np.float16)
    np.resize(few, (n, dim)).tofile(tmp_path / "rows")
    rows = PreparedRows(StoredLayer("0", n, dim, "F16", "", tmp_path / "rows"))

    here = find_row_statistics(rows)
    with DaskExecutor(cluster.address) as parts:
        there = find_row_statistics(rows, parts)
    assert there == here
    np.testing.assert_array_equal(there.mean, here.mean)


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(
    cluster: Cluster, rows: Any, add: Callable[..., EmbeddingSet], tmp_path: Path
) -> None:
    a, b = add("a", rows, range(N)), add("b", rows[::-1] + np.float16(1), range(N))
    options = {"metrics": ["mutual_knn"], "layers": {"a": "all", "b": "all"}, "interval": None}
    pair = Pair(a, b, tmp_path / "data", options)
    doomed = cluster.start_worker()
    told: list[int] = []

    def kill_one(stage: str, done: int, total: int) -> None:
        if stage == "neighbours":
            told.append(done)
            assert total == 2 * LAYERS * N
        if 0 < done < total and doomed.poll() is None:
            doomed.kill()

    there = pair.score(cluster, kill_one)
    assert doomed.wait(1) != 0
    assert told == sorted(told)
    assert told[-1] == 2 * LAYERS * N
    assert there == pair.score(None)
