"""What a worker makes of stored sets."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from consilience.contract.alignments import AlignmentRequest, ScoringOptions
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Plan
from consilience.contract.neighbour_metrics import MutualKnn
from consilience.contract.scores import ScoreDocument
from consilience.errors import Unavailable
from consilience.execution.alignment import CachedGraphs, open_set, run_alignment
from consilience.formats.files import from_vectors
from consilience.metrics.graph_sources import RowsKey
from consilience.numerics.knn.graph import NeighbourGraph, build_exact
from consilience.numerics.rows.arrays import AnyArray, Float32Array
from consilience.numerics.rows.sources import ArrayLayer, SideSource
from consilience.scoring import ignore_progress, score_sources
from consilience.stores.blobs import BlobStore, set_digest
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.graph_cache import DiskCache

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)
NAMES = tuple("abcdef")

KEY = RowsKey("key", None, centre=False, normalise=True)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "data")


@pytest.fixture
def stored(blobs: BlobStore, sqlite_url: str) -> EmbeddingSet:
    """A set with ids and groups, as the service stores it."""
    layers = blobs.put(from_vectors(ROWS.tolist()))
    ids, groups = blobs.put_column(NAMES), blobs.put_column(("x", "y") * 3)
    database = Database(sqlite_url)
    digest = set_digest(layers, ids, groups)
    found, _ = EmbeddingRecords(database).add("docs", 6, layers, digest, {}, ROWS.nbytes, ids=ids, groups=groups)
    database.close()
    return found


def test_a_stored_set_is_a_side_with_its_columns(stored: EmbeddingSet, blobs: BlobStore) -> None:
    side = open_set(stored, blobs, with_ids=True)
    assert (side.ids, side.groups) == (NAMES, ("x", "y") * 3)
    assert (side.id, side.name, side.n) == (stored.id, "docs", 6)


def test_ids_are_read_only_on_request(stored: EmbeddingSet, blobs: BlobStore) -> None:
    assert open_set(stored, blobs, with_ids=False).ids is None


def test_ids_that_are_lost_are_an_error_and_not_a_pairing_without_them(stored: EmbeddingSet, blobs: BlobStore) -> None:
    assert stored.ids
    assert blobs.delete(stored.ids.digest, grace_s=0)
    with pytest.raises(Unavailable):
        open_set(stored, blobs, with_ids=True)


@dataclass
class Builds:
    """Builds graphs, and remembers how long their lists were."""

    done: list[int] = field(default_factory=list)

    def __call__(self, k: int) -> NeighbourGraph:
        self.done.append(k)
        return build_exact(np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32), k)


def test_a_cached_graph_serves_smaller_k_and_a_larger_one_replaces_it(tmp_path: Path) -> None:
    graphs, build = CachedGraphs(DiskCache(tmp_path, 10**6), print), Builds()
    asked = [(5, False), (5, True), (3, True), (9, False), (5, True), (9, True)]
    found = [(k, *graphs.graph(lambda: KEY, k, build)) for k, _ in asked]
    assert [(k, hit) for k, _, hit in found] == asked
    assert build.done == [5, 9]
    for k, graph, _ in found:
        np.testing.assert_array_equal(graph.ids[:, :k], found[3][1].ids[:, :k])
        np.testing.assert_array_equal(graph.similarities[:, :k], found[3][1].similarities[:, :k])
    described = DiskCache(tmp_path, 10**6).describe()
    assert (described.graphs, described.hits, described.misses) == (1, 4, 2)


def test_without_a_cache_every_graph_is_built(tmp_path: Path) -> None:
    graphs, build = CachedGraphs(DiskCache(tmp_path, 0), print), Builds()
    assert [graphs.graph(lambda: KEY, 5, build)[1] for _ in range(2)] == [False, False]
    assert build.done == [5, 5]


@dataclass(frozen=True)
class WatchedLayer(ArrayLayer):
    """A layer that remembers which of its rows were read."""

    reads: list[int] = field(default_factory=list)

    def rows(self, start: int, stop: int) -> AnyArray:
        self.reads.append(start)
        return super().rows(start, stop)


def test_a_second_score_of_the_same_sets_reads_no_rows_and_says_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(60, 4)).astype(np.float32) for _ in "ab"]
    arrays[0][7] = arrays[0][3]
    graphs, options = CachedGraphs(DiskCache(tmp_path, 10**6), ignore_progress), ScoringOptions(metrics=(MutualKnn(),))

    def score() -> tuple[ScoreDocument, list[int]]:
        layers = [WatchedLayer("0", array) for array in arrays]
        document = score_sources(options, *(SideSource("s", [layer]) for layer in layers), graphs, ignore_progress)
        return document, layers[0].reads + layers[1].reads

    (first, read), (again, read_again) = score(), score()
    assert read
    assert not read_again
    assert again.scores[0].model_copy(update={"neighbours": None}) == first.scores[0].model_copy(
        update={"neighbours": None}
    )
    assert (first.pairing.duplicates_a, again.pairing.duplicates_a) == (1, 1)


def test_facts_about_a_layer_are_not_used_for_another(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    zeros = rows.copy()
    zeros[5] = 0
    graphs = CachedGraphs(DiskCache(tmp_path, 10**6), ignore_progress)

    def score(profile: str, a: Float32Array) -> str | None:
        options = ScoringOptions.model_validate({"metrics": "mutual_knn", "preparation": profile})
        sides = (SideSource("s", [ArrayLayer("0", array)]) for array in (a, rows))
        reason = score_sources(options, *sides, graphs, ignore_progress).scores[0].reason
        return reason and reason.code

    assert [score("l2", rows), score("l2", zeros), score("none", zeros), score("l2", rows)] == [
        None,
        "zero-rows",
        None,
        None,
    ]


def test_a_damaged_fact_is_found_anew(tmp_path: Path) -> None:
    graphs = CachedGraphs(DiskCache(tmp_path, 10**6), ignore_progress)
    assert graphs.fact(lambda: KEY, lambda: b"first") == b"first"
    assert graphs.fact(lambda: KEY, lambda: b"second") == b"first"
    (kept,) = (tmp_path / "facts").glob("??/*")
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    assert graphs.fact(lambda: KEY, lambda: b"third") == b"third"


@pytest.mark.parametrize("metric", ["mutual_knn", "cka", "linear_predictivity"])
def test_a_job_paired_by_id_equals_the_direct_call_even_if_its_plan_streams(
    metric: str, blobs: BlobStore, tmp_path: Path, sqlite_url: str
) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 8)).astype(np.float32)
    other = (rows @ rng.standard_normal((8, 6))).astype(np.float32)
    database = Database(sqlite_url)
    records, sets = EmbeddingRecords(database), []
    for name, array, first in (("a", rows[:200], 0), ("b", other[100:], 100)):
        layers = blobs.put(from_vectors(array.tolist()))
        ids = blobs.put_column(tuple(f"item {first + row}" for row in range(200)))
        digest = set_digest(layers, ids, None)
        sets.append(records.add(name, 200, layers, digest, {}, array.nbytes, ids=ids)[0])
    database.close()
    request = AlignmentRequest.model_validate(
        {"a": {"embedding": sets[0].id}, "b": {"embedding": sets[1].id}, "metrics": metric, "pairing": "id"}
    )
    plan = Plan(n=200, dim_a=8, dim_b=6, cells=1, flops=1.0, bytes=1, seconds=0.0, streamed=True)

    cache = DiskCache(tmp_path / "graphs", 0)
    job = run_alignment(request, *sets, blobs, cache, report=ignore_progress, plan=plan)
    sides = (open_set(side, blobs, with_ids=True) for side in sets)
    direct = score_sources(request, *sides, CachedGraphs(cache, ignore_progress), ignore_progress)

    assert job.n == 100
    assert job.model_dump(exclude={"timings_s"}) == direct.model_dump(exclude={"timings_s"})
