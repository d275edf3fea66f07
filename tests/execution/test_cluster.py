"""Parts on a real cluster: the same results, whatever happens to its processes."""

import gc
import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from consilience.errors import JobCrashed, Unavailable, UnknownLayer
from consilience.execution.addresses import ClusterAddress
from consilience.execution.cluster import DaskExecutor, _run, _Task
from tests.execution.clusters import OPENSSL, Cluster, Slow, die, make_certificate, refuse, wait_for, work_slowly
from workers.child import ChildProcess

# Dask forgets to close the sockets to a scheduler that does not respond.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <(ssl.SSLS|s)ocket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """They are found here, and not by a later test that forgives nothing."""
    yield
    gc.collect()


@pytest.fixture
def parts(cluster: Cluster) -> Iterator[DaskExecutor]:
    with DaskExecutor(cluster.address) as parts:
        yield parts


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without workers, that gives a part one chance alone."""
    folder = tmp_path_factory.mktemp("frail")
    cluster = Cluster(folder, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    yield cluster
    cluster.close()


def count(log: Path) -> Counter[str]:
    return Counter(log.read_text().split() if log.exists() else [])


def test_results_have_the_order_of_the_tasks(parts: DaskExecutor, tmp_path: Path) -> None:
    slow = [Slow(tmp_path / "log", seconds) for seconds in (0.2, 0.0, 0.0, 0.1)]
    found = list(parts.map(work_slowly, slow))
    assert len(found) == 4
    assert os.getpid() not in found
    assert list(parts.map(abs, [-3, 2, -1])) == [3, 2, 1]


def test_concurrent_calls_wait_at_the_same_time(parts: DaskExecutor, tmp_path: Path) -> None:
    slow = [Slow(tmp_path / name, 0.5) for name in "ab"]
    processes = parts.run_concurrently([lambda part=part: list(parts.map(work_slowly, [part])) for part in slow])
    assert processes[0] != processes[1]
    assert parts.run_concurrently([]) == []


def test_an_error_of_a_task_arrives_unchanged(parts: DaskExecutor) -> None:
    with pytest.raises(UnknownLayer) as caught:
        list(parts.map(refuse, ["7", "8"]))
    assert (caught.value.value, caught.value.hint) == ("7", "Choose another.")


def test_one_failed_call_drops_the_tasks_of_the_others(cluster: Cluster, tmp_path: Path) -> None:
    with DaskExecutor(cluster.address) as parts, pytest.raises(UnknownLayer):
        parts.run_concurrently(
            [
                lambda: list(parts.map(refuse, ["7", "8"])),
                lambda: list(parts.map(work_slowly, [Slow(tmp_path / "log", 0.05)] * 100)),
            ]
        )
    assert count(tmp_path / "log")["begun"] < 100


def test_pending_tasks_of_a_killed_job_never_run(cluster: Cluster, tmp_path: Path) -> None:
    log = tmp_path / "log"
    horse = ChildProcess(partial(map_slowly, cluster.address, log))
    wait_for(lambda: count(log)["begun"] >= 3)
    assert horse.kill().status == -signal.SIGKILL
    with DaskExecutor(cluster.address) as parts:  # those of another job come after all that wait
        list(parts.map(work_slowly, [Slow(tmp_path / "other", 0.0)] * 4))
    wait_for(lambda: count(log)["begun"] == count(log)["ended"])  # what had begun has come to its end
    assert count(log)["begun"] <= 10


def map_slowly(address: ClusterAddress, log: Path) -> int:
    with DaskExecutor(address) as parts:
        return len(list(parts.map(work_slowly, [Slow(log, 0.2)] * 50)))


def test_a_scheduler_that_does_not_answer_is_named(cluster: Cluster) -> None:
    url = cluster.address.url.rsplit(":", 1)[0] + ":1"
    with DaskExecutor(replace(cluster.address, url=url), timeout_s=0.2) as parts, pytest.raises(Unavailable) as caught:
        list(parts.map(abs, [1, 2]))
    assert "does not respond" in str(caught.value)
    assert caught.value.value == url


@pytest.mark.skipif(not OPENSSL, reason="makes certificates with openssl")
def test_a_client_without_a_trusted_certificate_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    stranger = replace(cluster.address, certificate=make_certificate(tmp_path / "stranger"))
    unarmed = ClusterAddress(cluster.address.url.replace("tls:", "tcp:"))
    for address in (stranger, unarmed):
        with DaskExecutor(address, timeout_s=1.0) as parts, pytest.raises(Unavailable):
            list(parts.map(abs, [1, 2]))


def test_a_cluster_without_workers_and_a_task_that_kills_workers_are_errors(frail: Cluster) -> None:
    with DaskExecutor(frail.address, timeout_s=0.2) as parts, pytest.raises(Unavailable, match="no workers"):
        list(parts.map(abs, [1, 2]))
    frail.start_worker()
    frail.start_worker()
    with DaskExecutor(frail.address) as parts, pytest.raises(JobCrashed) as caught:
        list(parts.map(die, [1, 0]))
    assert caught.value.limit == 0


def test_a_cluster_that_goes_away_is_an_error_that_can_be_tried_again(frail: Cluster, tmp_path: Path) -> None:
    with DaskExecutor(frail.address) as parts:
        coming = parts.map(work_slowly, [Slow(tmp_path / "log", 0.1)] * 50)
        next(coming)
        frail.scheduler.kill()
        with pytest.raises(Unavailable, match="lost") as caught:
            list(coming)
    assert caught.value.retryable


def test_a_worker_with_other_versions_refuses_to_compute() -> None:
    with pytest.raises(Unavailable) as caught:
        _run(_Task(abs, -1, {"numpy": "0"}))
    assert "numpy" in str(caught.value.value)
