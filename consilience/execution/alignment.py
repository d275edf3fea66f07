"""Scoring of two stored sets, with cached neighbour graphs and facts about layers."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Literal, Self

from consilience.contract.alignments import AlignmentRequest
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Plan
from consilience.contract.scores import ScoreDocument
from consilience.execution.addresses import ClusterAddress
from consilience.execution.parallel import open_executor
from consilience.metrics.comparison import Report
from consilience.metrics.graph_sources import Builder, LazyKey
from consilience.numerics.knn.graph import NeighbourGraph
from consilience.numerics.rows.sources import SideSource
from consilience.planning.alignments import CostLimits, SideShape
from consilience.planning.alignments import plan as make_plan
from consilience.scoring import score_sources
from consilience.stores.blobs import BlobStore
from consilience.stores.graph_cache import DiskCache

#: Maximum number of bytes that are prefetched.
PREFETCH_BYTES = 256_000_000

CacheName = Literal["graphs", "facts", "matrices"]


class Prefetcher(AbstractContextManager["Prefetcher"]):
    """Prefetches the cache entries that the last job of the same name read, and records those that this job reads.

    Parameters
    ----------
    graphs : DiskCache
        Cache of graphs, with its caches of facts and matrices.
    name : str
        Name that jobs reading the same entries share.
    is_shared : callable
        Returns True for the key of an entry that the next job of this name will read too.
    """

    def __init__(self, graphs: DiskCache, name: str, is_shared: Callable[[str], bool]) -> None:
        self._caches: dict[CacheName, DiskCache] = {
            "graphs": graphs,
            "facts": graphs.facts,
            "matrices": graphs.matrices,
        }
        self._address, self._is_shared = f"read ahead by {name}", is_shared
        self._pending: dict[str, Future[bytes | None]] = {}
        self._used: list[tuple[CacheName, str]] = []
        self._known: list[list[str]] | None = None
        self._read_bytes = 0
        self._reader = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        known = self._caches["facts"].read(self._address, lambda file: file.read())
        self._known = None if known is None else json.loads(known)
        for cache, address in self._known or ():
            self._pending[address] = self._reader.submit(self._read, cache, address)
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        noted = [[cache, address] for cache, address in self._used]
        if noted != self._known:
            with self._caches["facts"].claim(self._address, lambda: None) as keep:
                keep(lambda file: file.write(json.dumps(noted).encode()))

    def take(self, cache: CacheName, address: str) -> bytes | None:
        """Return the prefetched content of an entry, or None if it was not prefetched or does not exist."""
        if self._is_shared(address):
            self._used.append((cache, address))
        pending = self._pending.pop(address, None)
        return None if pending is None else pending.result()

    def _read(self, cache: CacheName, address: str) -> bytes | None:
        if self._read_bytes > PREFETCH_BYTES:
            return None
        content = self._caches[cache].read(address, _read_all)
        self._read_bytes += len(content or b"")
        return content


def _read_all(file: BinaryIO) -> bytes:
    return file.read()


def mentions_any(digests: Sequence[str]) -> Callable[[str], bool]:
    """Return a function that is True for keys that contain one of these digests of layers."""
    return lambda address: any(digest in address for digest in digests)


#: Increased whenever the format of graphs or the way they are built changes.
GRAPH_VERSION = 6
#: Increased whenever the format or the computation of facts changes.
FACT_VERSION = 1
#: Increased whenever the format or the computation of matrices changes.
MATRIX_VERSION = 1


@dataclass(frozen=True)
class CachedGraphs:
    """Neighbour graphs in the cache that all jobs share, keyed by the content they are built from."""

    store: DiskCache
    report: Report
    prefetcher: Prefetcher | None = None
    """Prefetches cache entries."""

    def graph(self, key: LazyKey, k: int, build: Builder) -> tuple[NeighbourGraph, bool]:
        """Return the cached graph of a key if it has at least k neighbours; otherwise build it, or wait for the job that does.

        The second value is True if the graph was in the cache.
        """
        address = f"graph {GRAPH_VERSION} {key().address}"
        found = self._read(address, k)
        if found is None:
            with self.store.claim(address, self._wait) as keep:
                found = self._read(address, k)  # another job may have built it meanwhile
                if found is None:
                    self.store.count(hit=False)
                    graph = build(k)
                    keep(lambda file: file.write(graph.to_bytes()))
                    return graph, False
        self.store.count(hit=True)
        return found, True

    def fact(self, key: LazyKey, find: Callable[[], bytes]) -> bytes:
        """Return a cached fact about a layer, or compute and store it."""
        return self._recall("facts", self.store.facts, f"fact {FACT_VERSION} {key().address}", find)

    def matrix(self, key: LazyKey, find: Callable[[], bytes]) -> bytes:
        """Return a cached matrix of a layer, or compute and store it."""
        return self._recall("matrices", self.store.matrices, f"matrix {MATRIX_VERSION} {key().address}", find)

    def _recall(self, cache: CacheName, store: DiskCache, address: str, find: Callable[[], bytes]) -> bytes:
        found = self.prefetcher.take(cache, address) if self.prefetcher else None
        if found is None:
            found = store.read(address, lambda file: file.read())
        if found is None:
            found = find()
            with store.claim(address, self._wait) as keep:
                keep(lambda file: file.write(found))
        return found

    def _read(self, address: str, k: int) -> NeighbourGraph | None:
        known = self.prefetcher.take("graphs", address) if self.prefetcher else None
        if known is None:
            graph = self.store.read(address, lambda file: NeighbourGraph.from_bytes(file.read()))
        else:
            graph = NeighbourGraph.from_bytes(known)
        return graph if graph is not None and graph.k_max >= k else None

    def _wait(self) -> None:
        self.report("neighbours: waiting for another job", 0, 1)


def run_alignment(
    request: AlignmentRequest,
    a: EmbeddingSet,
    b: EmbeddingSet,
    blobs: BlobStore,
    graphs: DiskCache,
    *,
    report: Report,
    cluster: ClusterAddress | None = None,
    device: str = "cpu",
    plan: Plan | None = None,
) -> ScoreDocument:
    """Score two stored sets.

    Parameters
    ----------
    request : AlignmentRequest
        Request whose sides are `a` and `b`.
    report : callable
        Called with a stage, the completed and the total number of steps.
    cluster : ClusterAddress, optional
        Cluster for long computations. By default they run in this process. The result is the same.
    device : str
        Device for neighbour search: `auto`, `cpu`, `cuda` or `cuda:N`. The result is the same.
    plan : Plan, optional
        Plan of the job. By default the sets are planned here, and always if they are paired by id: the stored plan then
        counts the most rows that may have a pair, and may stream rows that the pairs themselves do not need streamed.

    Raises
    ------
    Unavailable
        The cluster does not respond, has no workers, or was lost; or the device does not exist.
    InputError
        An error that only the data reveal, such as a null that a metric does not have.
    """
    by_id = request.pairing == "id"
    side_a, side_b = (open_set(side, blobs, with_ids=by_id) for side in (a, b))
    with open_executor(cluster) as executor:
        source = CachedGraphs(graphs, report)
        exact = None if by_id else plan
        return score_sources(request, side_a, side_b, source, report, executor=executor, device=device, plan=exact)


def plan_sets(request: AlignmentRequest, a: EmbeddingSet, b: EmbeddingSet, *, flops: float, seconds: float) -> Plan:
    """Plan a job whose sets did not exist when it was submitted. Raise the errors of `planning.alignments.plan`."""
    limits = CostLimits(flops, request.memory_budget_bytes, seconds)
    return make_plan(request, SideShape.of(a), SideShape.of(b), limits)


def open_set(embeddings: EmbeddingSet, blobs: BlobStore, *, with_ids: bool) -> SideSource:
    """Open a stored set as a side. The ids are only read if `with_ids`."""
    return SideSource(
        name=embeddings.name,
        layers=[blobs.open(layer, embeddings.n) for layer in embeddings.layers],
        id=embeddings.id,
        ids=blobs.read_column(embeddings.ids.digest) if with_ids and embeddings.ids else None,
        groups=blobs.read_column(embeddings.groups.digest) if embeddings.groups else None,
    )
