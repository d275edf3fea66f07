"""The parts of a job on a Dask cluster. The one module that imports distributed.

Dask's messages are pickles: whoever can speak to the cluster can run code on it, so it is reached over TLS with certificates on
both sides, or on this machine alone (the worker's settings see to it). A client is made in the process of the job that needs it
and lives no longer: when that process ends, however it ends, the scheduler drops what the job had waiting.
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

#: How long a cluster that does not answer, or has no workers, is waited for.
PATIENCE_S = 30.0
#: Layers of one job that wait for their parts at the same time.
OVERLAP_MAX = 16


class DaskParts:
    """Runs parts as tasks of a Dask cluster; it is connected to when the first part is there.

    Use it as a context: afterwards the cluster holds nothing of it.

    Parameters
    ----------
    address : ClusterAddress
        Where the scheduler is.
    patience_s : float
        How long it may take to answer, and to have a worker.
    """

    elsewhere = True

    def __init__(self, address: ClusterAddress, patience_s: float = PATIENCE_S) -> None:
        self._address = address
        self._patience_s = patience_s
        self._connecting = Lock()
        self._thread = local()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster, which drops every part that is not done."""
        if "_client" in self.__dict__:
            self._client.close(timeout=1)

    def map(self, function: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
        """Send all parts, and give the results in the parts' order, as they come.

        A part that would be alone on the cluster is done here: that is as fast, and spares the way.

        Raises
        ------
        Unavailable
            The cluster does not answer, has no workers, or is lost on the way.
        JobCrashed
            Several workers died of the same part.
        ConsilienceError
            What the function raises.
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

    def overlap(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """Make the calls side by side, each in a thread of its own; where one fails, the others' parts are dropped."""
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
                timeout=self._patience_s,
                set_as_default=False,
            )
        except OSError as error:  # timeouts and refused handshakes are among them
            raise self._unavailable("does not answer") from error
        try:
            client.wait_for_workers(1, timeout=self._patience_s)
        except TimeoutError as error:
            client.close(timeout=1)
            raise self._unavailable("has no workers") from error
        return client

    def _result(self, future: Future[Result]) -> Result:
        try:
            return future.result()
        except (CancelledError, CommClosedError) as error:  # before, or while, it is fetched
            raise self._unavailable("was lost") from error
        except KilledWorker as error:
            raise JobCrashed(
                "A part of the job ended every worker of the cluster that tried it.",
                value=error.last_worker.address,
                limit=error.allowed_failures,
                hint="See that worker's log; most often it ran out of memory.",
            ) from error
        finally:
            future.release()

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(
            f"The cluster {what}.",
            value=self._address.url,
            hint="Send the job again when the scheduler and its workers are back.",
        )


@dataclass(frozen=True)
class _Task:
    """A part on its way, with the versions that must be the same where it runs."""

    function: Callable[[Any], Any]
    part: object
    versions: dict[str, str]


def _run(task: _Task) -> Any:
    """On the cluster's worker: other versions could give other numbers, and there must be no telling where a part ran."""
    here = find_versions()
    if here != task.versions:
        raise Unavailable(
            "A worker of the cluster has other versions than the job.",
            value=", ".join(f"{name} {version}" for name, version in sorted(here.items() - task.versions.items())),
            hint="Run the same image everywhere.",
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
