"""Where a job computes: in its own process or on a cluster, on the processor or on a card."""

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec

from consilience.errors import MissingExtra, StartupError, Unavailable
from consilience.execution.addresses import ClusterAddress
from consilience.numerics.knn import devices
from consilience.numerics.rows.parallel import HERE, Parts, find_blas
from consilience.scoring import find_versions


def load_cluster() -> None:
    """Import what a cluster needs, so that every process forked later has it; this starts no thread.

    Raises
    ------
    MissingExtra
        Dask is not installed.
    """
    if find_spec("distributed") is None:
        raise MissingExtra(
            "The packages of cluster are not installed.",
            value="cluster",
            hint="Run: pip install 'consilience[cluster]', or unset CONSILIENCE_CLUSTER_URL.",
        )
    import_module("consilience.execution.cluster")


def look_ahead() -> None:
    """Find, before any fork, what every job's process would else find for itself; it runs nothing and starts no thread."""
    find_blas()
    find_versions()


def check_device(word: str) -> None:
    """See that a device can be here, before any fork: it loads nothing, and no card is woken.

    Raises
    ------
    StartupError
        What is missing.
    """
    try:
        devices.check_device(word)
    except Unavailable as error:
        raise StartupError(
            error.detail, value=word, hint="Set CONSILIENCE_DEVICE=cpu, or auto for a card where there is one."
        ) from error


def open_parts(address: ClusterAddress | None) -> AbstractContextManager[Parts]:
    """Where a job's parts run while the context lasts: on the cluster at the address, or here. In the job's own process."""
    if address is None:
        return nullcontext(HERE)
    from consilience.execution.cluster import DaskParts  # noqa: PLC0415 - Dask is an extra

    return DaskParts(address)
