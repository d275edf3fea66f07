"""What a job does to fit a map of two stored sets, and to translate a stored set by a map."""

from collections.abc import Iterator

import numpy as np

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.maps import MapRequest
from consilience.execution.addresses import ClusterAddress
from consilience.execution.alignment import open_set
from consilience.execution.places import open_parts
from consilience.formats.map_files import MapFile
from consilience.formats.matrices import Array, LayerHeader, OpenFile, Tensor
from consilience.mapping import Map, fit_sources, open_map, pick_layer
from consilience.measures.comparison import Report
from consilience.stores.blobs import Blobs


def run_map(
    request: MapRequest,
    a: EmbeddingSet,
    b: EmbeddingSet,
    blobs: Blobs,
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
    with open_parts(cluster) as parts:
        return fit_sources(request, side_a, side_b, report, models=models, parts=parts)


def find_model(stored: EmbeddingSet) -> str | None:
    """The model that a set is known to be of: its record says so, or its metadata's `model`."""
    named = stored.record.model if stored.record is not None else stored.metadata.get("model")
    return named if isinstance(named, str) else None


def run_translation(file: MapFile, source: EmbeddingSet, layer: str, blobs: Blobs, *, report: Report) -> OpenFile:
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
