"""What a job does with its two stored sets. Holds the cache of neighbour graphs."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Literal, Self

from consilience.contract.alignments import AlignmentRequest
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.scores import ScoreDocument
from consilience.execution.addresses import ClusterAddress
from consilience.execution.parallel import open_executor
from consilience.metrics.comparison import Address, Builder, Report
from consilience.numerics.knn.graph import NeighbourGraph
from consilience.numerics.rows.sources import SideSource
from consilience.planning.alignments import CostLimits, SideShape, plan
from consilience.scoring import score_sources
from consilience.stores.blobs import BlobStore
from consilience.stores.graph_cache import DiskCache

#: What is read before it is asked for; more is left to whoever asks.
PREFETCH_BYTES = 256_000_000

CacheName = Literal["graphs", "facts", "matrices"]


class Prefetcher(AbstractContextManager["Prefetcher"]):
    """Reads what the last job of the same name read, in its order, and notes what this one reads.

    Parameters
    ----------
    graphs : Graphs
        The cache, with its facts and matrices.
    name : str
        What jobs that read the same have in common.
    concerns : callable
        Whether an address is one that the next job of the name will read too.
    """

    def __init__(self, graphs: DiskCache, name: str, concerns: Callable[[str], bool]) -> None:
        self._stores: dict[CacheName, DiskCache] = {
            "graphs": graphs,
            "facts": graphs.facts,
            "matrices": graphs.matrices,
        }
        self._address, self._concerns = f"read ahead by {name}", concerns
        self._coming: dict[str, Future[bytes | None]] = {}
        self._used: list[tuple[CacheName, str]] = []
        self._wanted: list[list[str]] | None = None
        self._read_bytes = 0
        self._reader = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        known = self._stores["facts"].read(self._address, lambda file: file.read())
        self._wanted = None if known is None else json.loads(known)
        for place, address in self._wanted or ():
            self._coming[address] = self._reader.submit(self._read, place, address)
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        noted = [[place, address] for place, address in self._used]
        if noted != self._wanted:
            with self._stores["facts"].claim(self._address, lambda: None) as keep:
                keep(lambda file: file.write(json.dumps(noted).encode()))

    def take(self, place: CacheName, address: str) -> bytes | None:
        """What the file of an address holds, where it was read ahead; None where it was not, or is not there."""
        if self._concerns(address):
            self._used.append((place, address))
        coming = self._coming.pop(address, None)
        return None if coming is None else coming.result()

    def _read(self, place: CacheName, address: str) -> bytes | None:
        if self._read_bytes > PREFETCH_BYTES:
            return None
        found = self._stores[place].read(address, _read_all)
        self._read_bytes += len(found or b"")
        return found


def _read_all(file: BinaryIO) -> bytes:
    return file.read()


def mentions_any(digests: Sequence[str]) -> Callable[[str], bool]:
    """Whether an address names one of these layers."""
    return lambda address: any(digest in address for digest in digests)


#: Raised when the bytes of a graph or the way it is built change.
GRAPH_VERSION = 6
#: The same of facts about layers.
FACT_VERSION = 1
#: The same of matrices.
MATRIX_VERSION = 1


@dataclass(frozen=True)
class CachedGraphs:
    """Neighbour graphs by the content that they were made of, shared with all other jobs."""

    store: DiskCache
    report: Report
    ahead: Prefetcher | None = None
    """Reads files before they are asked for."""

    def graph(self, key: Address, k: int, build: Builder) -> tuple[NeighbourGraph, bool]:
        """Read the graph of a key where it answers k; else build it, or wait for the job that does, and keep it."""
        address = f"graph {GRAPH_VERSION} {key()}"
        found = self._read(address, k)
        if found is None:
            with self.store.claim(address, self._wait) as keep:
                found = self._read(address, k)  # somebody may have built it since
                if found is None:
                    self.store.count(hit=False)
                    graph = build(k)
                    keep(lambda file: file.write(graph.to_bytes()))
                    return graph, False
        self.store.count(hit=True)
        return found, True

    def fact(self, key: Address, find: Callable[[], bytes]) -> bytes:
        """Read what is known of a layer; else find it and keep it."""
        return self._recall("facts", self.store.facts, f"fact {FACT_VERSION} {key()}", find)

    def matrix(self, key: Address, find: Callable[[], bytes]) -> bytes:
        """Read what is kept of a layer; else find it and keep it."""
        return self._recall("matrices", self.store.matrices, f"matrix {MATRIX_VERSION} {key()}", find)

    def _recall(self, place: CacheName, store: DiskCache, address: str, find: Callable[[], bytes]) -> bytes:
        found = self.ahead.take(place, address) if self.ahead else None
        if found is None:
            found = store.read(address, lambda file: file.read())
        if found is None:
            found = find()
            with store.claim(address, self._wait) as keep:
                keep(lambda file: file.write(found))
        return found

    def _read(self, address: str, k: int) -> NeighbourGraph | None:
        known = self.ahead.take("graphs", address) if self.ahead else None
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
) -> ScoreDocument:
    """Score two stored sets.

    Parameters
    ----------
    request : AlignmentRequest
        Its sides are `a` and `b`.
    report : callable
        Called with a stage, what is done and what there is to do.
    cluster : ClusterAddress, optional
        Where long computations run; by default in this process. The result is the same.
    device : str
        What multiplies for neighbour graphs: `cpu`, `cuda`, `cuda:1` or `auto`. The result is the same.

    Raises
    ------
    Unavailable
        The cluster does not answer, has no workers, or was lost; there is no such device.
    InputError
        What only the numbers can tell, such as a null that a metric does not have.
    """
    by_id = request.pairing == "id"
    side_a, side_b = (open_set(side, blobs, with_ids=by_id) for side in (a, b))
    with open_executor(cluster) as parts:
        return score_sources(request, side_a, side_b, CachedGraphs(graphs, report), report, parts=parts, device=device)


def check_cost(request: AlignmentRequest, a: EmbeddingSet, b: EmbeddingSet, *, flops: float, seconds: float) -> None:
    """Ask of two sets what the service asks at POST, where it could not: a model had yet to make one. Errors as `plan`."""
    limits = CostLimits(flops, request.memory_budget_bytes, seconds)
    plan(request, SideShape.of(a), SideShape.of(b), limits)


def open_set(embeddings: EmbeddingSet, blobs: BlobStore, *, with_ids: bool) -> SideSource:
    """A stored set as a side; its ids are read only where they are asked for."""
    return SideSource(
        name=embeddings.name,
        layers=[blobs.open(layer, embeddings.n) for layer in embeddings.layers],
        id=embeddings.id,
        ids=blobs.read_column(embeddings.ids.digest) if with_ids and embeddings.ids else None,
        groups=blobs.read_column(embeddings.groups.digest) if embeddings.groups else None,
    )
