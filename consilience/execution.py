"""Where a job's parts run: in this process. Holds the cache of neighbour graphs."""

from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import AlignmentRequest
from consilience.contract.scores import ScoreDocument
from consilience.errors import StorageFull
from consilience.measures.comparison import Address, Builder, Report
from consilience.numerics.neighbours import NeighbourGraph
from consilience.numerics.sources import Source
from consilience.scoring import score_sources
from consilience.stores.blobs import Blobs

#: Raised when the bytes of a graph or the way it is built change.
GRAPH_VERSION = 3


@dataclass(frozen=True)
class CachedGraphs:
    """Neighbour graphs in the blob store, by the content that they were made of."""

    blobs: Blobs

    def graph(self, key: Address, k: int, build: Builder) -> tuple[NeighbourGraph, bool]:
        """Read the graph of a key where it answers k; else build it and write it in the old one's place."""
        address = sha256(f"graph {GRAPH_VERSION} {key()}".encode()).hexdigest()
        stored = self.blobs.read_graph(address)
        if stored is not None:
            graph = NeighbourGraph.from_bytes(stored, "faiss_flat")
            if graph.k_max >= k:
                return graph, True
        graph = build(k)
        with suppress(StorageFull):  # the score does not need the cache
            self.blobs.write_graph(address, graph.to_bytes())
        return graph, False


def run_alignment(
    request: AlignmentRequest, a: EmbeddingSet, b: EmbeddingSet, blobs: Blobs, report: Report
) -> ScoreDocument:
    """Score two stored sets.

    Parameters
    ----------
    request : AlignmentRequest
        Its sides are `a` and `b`.
    report : callable
        Called with a stage, what is done and what there is to do.

    Raises
    ------
    InputError
        What only the numbers can tell, such as a null that a metric does not have.
    """
    by_id = request.pairing == "id"
    side_a, side_b = (open_set(side, blobs, with_ids=by_id) for side in (a, b))
    return score_sources(request, side_a, side_b, CachedGraphs(blobs), report)


def open_set(embeddings: EmbeddingSet, blobs: Blobs, *, with_ids: bool) -> Source:
    """A stored set as a side; its ids are read only where they are asked for."""
    return Source(
        name=embeddings.name,
        layers=[blobs.open(layer, embeddings.n) for layer in embeddings.layers],
        id=embeddings.id,
        ids=blobs.read_column(embeddings.ids.digest) if with_ids and embeddings.ids else None,
        groups=blobs.read_column(embeddings.groups.digest) if embeddings.groups else None,
    )
