"""What a job does to fit a map of two stored sets, and to translate a stored set by a map."""

from collections.abc import Iterator

import numpy as np

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.maps import MapRequest
from consilience.contract.upgrades import UpgradeReport, UpgradeRequest
from consilience.execution.addresses import ClusterAddress
from consilience.execution.alignment import open_set
from consilience.execution.parallel import open_executor
from consilience.formats.map_files import MapFile
from consilience.formats.open_file import Array, LayerHeader, OpenFile, Tensor
from consilience.maps.api import Map, fit_sources, open_map, pick_layer
from consilience.metrics.comparison import Report
from consilience.stores.blobs import BlobStore
from consilience.upgrades.api import UpgradeInput, report_sources


def run_map(
    request: MapRequest,
    a: EmbeddingSet,
    b: EmbeddingSet,
    blobs: BlobStore,
    *,
    report: Report,
    cluster: ClusterAddress | None = None,
) -> Map:
    """Fit a map of two stored sets and judge it.

    Raises
    ------
    InputError
        What only the numbers can tell.
    Unavailable
        The cluster does not answer, has no workers, or was lost.
    """
    by_id = request.pairing == "id"
    side_a, side_b = (open_set(side, blobs, with_ids=by_id) for side in (a, b))
    models = find_model(a), find_model(b)
    with open_executor(cluster) as parts:
        return fit_sources(request, side_a, side_b, report, models=models, parts=parts)


def find_model(stored: EmbeddingSet) -> str | None:
    """The model that a set is known to be of: its record says so, or its metadata's `model`."""
    named = stored.record.model if stored.record is not None else stored.metadata.get("model")
    return named if isinstance(named, str) else None


def run_translation(file: MapFile, source: EmbeddingSet, layer: str, blobs: BlobStore, *, report: Report) -> OpenFile:
    """The translations of a stored set's layer as a file of one layer, whose rows are made when they are read.

    Raises
    ------
    InputError
        The set is known not to be of the space that the map starts from, or has no such layer.
    """
    found = open_map(file)
    side = open_set(source, blobs, with_ids=source.ids is not None)
    chosen = pick_layer(side, layer, None)
    found.check_origin(find_model(source), chosen.digest)

    def read() -> Iterator[Array]:
        done = 0
        for block in found.blocks(chosen):
            yield block
            done += len(block)
            report("translation", done, chosen.n)

    dim = found.card.b.dim
    tensor = Tensor("0", (chosen.n, dim), np.dtype("<f4"), read)
    columns = {
        name: None if each is None else tuple(each) for name, each in (("ids", side.ids), ("groups", side.groups))
    }
    return OpenFile((LayerHeader("0", chosen.n, dim, "F32"),), (tensor,), **columns)


#: A set by the old and by the new model.
Sets = tuple[EmbeddingSet, EmbeddingSet]


def run_upgrade(
    request: UpgradeRequest,
    documents: Sets,
    queries: Sets | None,
    blobs: BlobStore,
    *,
    report: Report,
    cluster: ClusterAddress | None = None,
) -> UpgradeReport:
    """Report on stored sets.

    Parameters
    ----------
    request : UpgradeRequest
        Its sides are `documents` and `queries`.
    report, cluster : as in `alignment.run_alignment`

    Raises
    ------
    InputError
        What only the numbers, or the ids, can tell.
    Unavailable
        The cluster does not answer, has no workers, or was lost.
    """
    old, new = (open_set(each, blobs, with_ids=each.ids is not None) for each in documents)
    asking = None
    if queries is not None:
        first, second = (open_set(each, blobs, with_ids=each.ids is not None) for each in queries)
        asking = first, second
    models = find_model(documents[0]), find_model(documents[1])
    question = UpgradeInput(old, new, asking, request.qrels, models)
    with open_executor(cluster) as parts:
        return report_sources(request, question, report, parts=parts)
