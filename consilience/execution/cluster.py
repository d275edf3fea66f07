"""Execution of a job's tasks on a Dask cluster. This is the only module that imports distributed.

Dask's messages are pickles: whoever can connect to the cluster can run code on it. So the worker's settings require TLS with
certificates on both sides, or a cluster on this machine. The process of each job makes its own client. When that process
ends, the scheduler drops the pending tasks of the job.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from threading import Lock, local
from typing import Any, Self, TypeVar

from distributed import Client, Future, KilledWorker
from distributed.comm.core import CommClosedError
from distributed.security import Security

from consilience.errors import JobCrashed, Unavailable
from consilience.execution.addresses import Certificate, ClusterAddress
from consilience.scoring import find_versions

Part = TypeVar("Part")
Result = TypeVar("Result")

#: Seconds to wait for a cluster that does not respond or has no workers.
CONNECT_TIMEOUT_S = 30.0
#: Maximum number of layers of one job whose tasks run at the same time.
OVERLAP_MAX = 16


class DaskExecutor:
    """Runs tasks on a Dask cluster. It connects when the first task is submitted.

    Use it as a context manager: afterwards the cluster holds no data of the job.

    Parameters
    ----------
    address : ClusterAddress
        Address of the scheduler.
    timeout_s : float
        Seconds to wait for a response, and for a first worker.
    """

    is_remote = True

    def __init__(self, address: ClusterAddress, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._connecting = Lock()
        self._thread = local()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect from the cluster, which drops all unfinished tasks."""
        if "_client" in self.__dict__:
            self._client.close(timeout=1)

    def map(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """Submit all tasks, and yield the results in the order of the tasks.

        A single task runs in this process, which is as fast and avoids the transfer.

        Raises
        ------
        Unavailable
            The cluster does not respond, has no workers, or was lost.
        JobCrashed
            Several workers died while running the same task.
        ConsilienceError
            An error of the function.
        """
        if len(parts) < 2 and not getattr(self._thread, "overlaps", False):
            yield from map(function, parts)
            return
        with self._connecting:
            client = self._client
        tasks = [_Task(function, part, find_versions()) for part in parts]
        futures = client.map(_run, tasks, pure=False, key=function.__name__)
        while futures:
            yield self._result(futures.pop(0))

    def run_concurrently(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Run calls concurrently, each in its own thread. If one fails, the tasks of the others are dropped."""
        if len(calls) < 2:
            return [call() for call in calls]
        with ThreadPoolExecutor(min(len(calls), OVERLAP_MAX), initializer=self._note_overlap) as pool:
            try:
                return list(pool.map(lambda call: call(), calls))
            except BaseException:
                self.close()
                raise

    def _note_overlap(self) -> None:
        self._thread.overlaps = True

    @cached_property
    def _client(self) -> Client:
        try:
            client = Client(
                self._address.url,
                security=_secure(self._address.certificate),
                timeout=self._timeout_s,
                set_as_default=False,
            )
        except OSError as error:  # timeouts and refused handshakes are among them
            raise self._unavailable("does not respond") from error
        try:
            client.wait_for_workers(1, timeout=self._timeout_s)
        except TimeoutError as error:
            client.close(timeout=1)
            raise self._unavailable("has no workers") from error
        return client

    def _result(self, future: Future[Result]) -> Result:
        try:
            return future.result()
        except (CancelledError, CommClosedError) as error:  # before or while the result is fetched
            raise self._unavailable("was lost") from error
        except KilledWorker as error:
            raise JobCrashed(
                "A task of the job crashed every worker of the cluster that ran it.",
                value=error.last_worker.address,
                limit=error.allowed_failures,
                hint="See the log of that worker. The usual cause is a lack of memory.",
            ) from error
        finally:
            future.release()

    def _unavailable(self, problem: str) -> Unavailable:
        return Unavailable(
            f"The cluster {problem}.",
            value=self._address.url,
            hint="Submit the job again when the scheduler and its workers are available.",
        )


@dataclass(frozen=True)
class _Task:
    """Task with the library versions that the worker must have."""

    function: Callable[[Any], Any]
    part: object
    versions: dict[str, str]


def _run(task: _Task) -> Any:
    """Run a task on a worker of the cluster. Refuse other versions, which could give other results."""
    versions = find_versions()
    if versions != task.versions:
        raise Unavailable(
            "A worker of the cluster has other library versions than the job.",
            value=", ".join(f"{name} {version}" for name, version in sorted(versions.items() - task.versions.items())),
            hint="Run the same image on all machines.",
        )
    return task.function(task.part)


def _secure(certificate: Certificate | None) -> Security | None:
    if certificate is None:
        return None
    return Security(
        tls_ca_file=str(certificate.ca_file),
        tls_client_cert=str(certificate.cert_file),
        tls_client_key=str(certificate.key_file),
        require_encryption=True,
    )
