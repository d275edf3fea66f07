"""Studies of stored sets."""

from collections.abc import Sequence
from functools import partial

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.studies import Member, StudyRequest
from consilience.contract.study_results import StudyDocument
from consilience.execution.addresses import ClusterAddress
from consilience.execution.alignment import CachedGraphs, open_set
from consilience.execution.parallel import open_executor
from consilience.metrics.comparison import Report
from consilience.planning.studies import find_label, join_metadata
from consilience.scoring import ignore_progress
from consilience.stores.blobs import BlobStore
from consilience.stores.graph_cache import DiskCache
from consilience.studies.running import CellStore, StudyModel, StudyModels, run_study


def run_study_job(
    request: StudyRequest,
    rows: Sequence[EmbeddingSet],
    columns: Sequence[EmbeddingSet] | None,
    blobs: BlobStore,
    graphs: DiskCache,
    *,
    cells: CellStore,
    report: Report,
    cluster: ClusterAddress | None = None,
    device: str = "cpu",
) -> StudyDocument:
    """Run a study of stored sets.

    Parameters
    ----------
    request : StudyRequest
        Request whose members are `rows` and `columns`, in this order.
    cells : CellStore
        Store of finished cells, which are reused after a crash and by other studies.
    report, cluster, device
        As in `alignment.run_alignment`.

    Raises
    ------
    Unavailable
        As in `alignment.run_alignment`.
    InputError
        Two of the sets cannot be compared.
    """
    by_id = request.pairing == "id"

    def open_all(members: Sequence[Member], sets: Sequence[EmbeddingSet]) -> list[StudyModel]:
        return [
            StudyModel(
                label=find_label(member, embeddings.name),
                source=open_set(embeddings, blobs, with_ids=by_id),
                metadata=join_metadata(member, embeddings.metadata),
                digest=embeddings.digest,
            )
            for member, embeddings in zip(members, sets, strict=True)
        ]

    models = StudyModels(
        open_all(request.rows, rows),
        None if request.columns is None or columns is None else open_all(request.columns, columns),
    )
    with open_executor(cluster) as executor:
        return run_study(
            request,
            models,
            CachedGraphs(graphs, report),
            report,
            cells=cells,
            executor=executor,
            device=device,
            open_graphs=partial(CachedGraphs, graphs, ignore_progress),
        )
