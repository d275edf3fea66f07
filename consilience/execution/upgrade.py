"""What an upgrade's job does with its stored sets."""

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.upgrade_reports import UpgradeReport
from consilience.contract.upgrades import UpgradeRequest
from consilience.execution.addresses import ClusterAddress
from consilience.execution.alignment import open_set
from consilience.execution.maps import find_model
from consilience.execution.places import open_parts
from consilience.measures.comparison import Report
from consilience.stores.blobs import Blobs
from consilience.upgrading import Question, report_sources

#: A set by the old and by the new model.
Sets = tuple[EmbeddingSet, EmbeddingSet]


def run_upgrade(
    request: UpgradeRequest,
    documents: Sets,
    queries: Sets | None,
    blobs: Blobs,
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
    question = Question(old, new, asking, request.judgements, models)
    with open_parts(cluster) as parts:
        return report_sources(request, question, report, parts=parts)
