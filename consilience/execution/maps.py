"""Jobs with maps of stored sets: fit a map, translate a set, and report on an upgrade."""

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
    """Fit a map of two stored sets and evaluate it.

    Raises
    ------
    InputError
        An error that only the data reveal.
    Unavailable
        The cluster does not respond, has no workers, or was lost.
    """
    by_id = request.pairing == "id"
    side_a, side_b = (open_set(side, blobs, with_ids=by_id) for side in (a, b))
    models = find_model(a), find_model(b)
    with open_executor(cluster) as executor:
        return fit_sources(request, side_a, side_b, report, models=models, executor=executor)


def find_model(stored: EmbeddingSet) -> str | None:
    """Return the model of a set if it is known from the record of the set or from `model` in its metadata."""
    model = stored.record.model if stored.record is not None else stored.metadata.get("model")
    return model if isinstance(model, str) else None


def run_translation(file: MapFile, source: EmbeddingSet, layer: str, blobs: BlobStore, *, report: Report) -> OpenFile:
    """Return the translation of a layer of a stored set as a file of one layer. Rows are translated when they are read.

    Raises
    ------
    InputError
        The set is known to be in another space than the source of the map, or has no such layer.
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


#: Embeddings of the same items by the old and by the new model.
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
    """Report on an upgrade between the models of stored sets.

    Parameters
    ----------
    request : UpgradeRequest
        Request whose sides are `documents` and `queries`.
    report, cluster : as in `alignment.run_alignment`

    Raises
    ------
    InputError
        An error that only the data or the ids reveal.
    Unavailable
        The cluster does not respond, has no workers, or was lost.
    """
    old, new = (open_set(each, blobs, with_ids=each.ids is not None) for each in documents)
    asking = None
    if queries is not None:
        first, second = (open_set(each, blobs, with_ids=each.ids is not None) for each in queries)
        asking = first, second
    models = find_model(documents[0]), find_model(documents[1])
    question = UpgradeInput(old, new, asking, request.qrels, models)
    with open_executor(cluster) as executor:
        return report_sources(request, question, report, executor=executor)
