"""Choice of the executor and the device of a job, and what is imported before the fork of its process."""

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec

from consilience.errors import MissingExtra, StartupError, Unavailable
from consilience.execution.addresses import ClusterAddress
from consilience.numerics.knn import devices
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor, find_blas
from consilience.scoring import find_versions


def load_cluster() -> None:
    """Import the packages for a cluster before any fork. This starts no thread.

    Raises
    ------
    MissingExtra
        Dask is not installed.
    """
    if find_spec("distributed") is None:
        raise MissingExtra(
            "The packages of the extra `cluster` are not installed.",
            value="cluster",
            hint="Run: pip install 'consilience[cluster]', or unset CONSILIENCE_CLUSTER_URL.",
        )
    import_module("consilience.execution.cluster")


def prepare_fork() -> None:
    """Cache, before any fork, values that the process of every job needs. This starts no thread."""
    find_blas()
    find_versions()


def check_device(word: str) -> None:
    """Check, before any fork, that a device can exist on this machine. This loads no library and initializes no GPU.

    Raises
    ------
    StartupError
        The device is missing.
    """
    try:
        devices.check_device(word)
    except Unavailable as error:
        raise StartupError(
            error.detail,
            value=word,
            hint="Set CONSILIENCE_DEVICE to cpu, or to auto, which uses a GPU if there is one.",
        ) from error


def open_executor(address: ClusterAddress | None) -> AbstractContextManager[Executor]:
    """Open the executor of a job's tasks: the cluster at `address`, or this process. Call this in the process of the job."""
    if address is None:
        return nullcontext(LOCAL_EXECUTOR)
    from consilience.execution.cluster import DaskExecutor  # noqa: PLC0415 - Dask is an extra

    return DaskExecutor(address)
