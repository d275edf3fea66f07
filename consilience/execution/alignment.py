"""What a job does with its two stored sets. Holds the cache of neighbour graphs."""

from collections.abc import Callable
from dataclasses import dataclass

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import AlignmentRequest
from consilience.contract.scores import ScoreDocument
from consilience.execution.addresses import ClusterAddress
from consilience.execution.ahead import Ahead, Place
from consilience.execution.places import open_parts
from consilience.measures.comparison import Address, Builder, Report
from consilience.numerics.neighbours import NeighbourGraph
from consilience.numerics.sources import Source
from consilience.planning.alignments import CostLimits, SideShape, plan
from consilience.scoring import score_sources
from consilience.stores.blobs import Blobs
from consilience.stores.graphs import Graphs

#: Raised when the bytes of a graph or the way it is built change.
GRAPH_VERSION = 5
#: The same of facts about layers.
FACT_VERSION = 1
#: The same of matrices.
MATRIX_VERSION = 1


@dataclass(frozen=True)
class CachedGraphs:
    """Neighbour graphs by the content that they were made of, shared with all other jobs."""

    store: Graphs
    report: Report
    ahead: Ahead | None = None
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

    def _recall(self, place: Place, store: Graphs, address: str, find: Callable[[], bytes]) -> bytes:
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
    blobs: Blobs,
    graphs: Graphs,
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
    with open_parts(cluster) as parts:
        return score_sources(request, side_a, side_b, CachedGraphs(graphs, report), report, parts=parts, device=device)


def check_cost(request: AlignmentRequest, a: EmbeddingSet, b: EmbeddingSet, *, flops: float, seconds: float) -> None:
    """Ask of two sets what the service asks at POST, where it could not: a model had yet to make one. Errors as `plan`."""
    limits = CostLimits(flops, request.memory_budget_bytes, seconds)
    plan(request, SideShape.of(a), SideShape.of(b), limits)


def open_set(embeddings: EmbeddingSet, blobs: Blobs, *, with_ids: bool) -> Source:
    """A stored set as a side; its ids are read only where they are asked for."""
    return Source(
        name=embeddings.name,
        layers=[blobs.open(layer, embeddings.n) for layer in embeddings.layers],
        id=embeddings.id,
        ids=blobs.read_column(embeddings.ids.digest) if with_ids and embeddings.ids else None,
        groups=blobs.read_column(embeddings.groups.digest) if embeddings.groups else None,
    )
