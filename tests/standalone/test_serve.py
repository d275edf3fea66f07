"""`consilience serve` and what may happen to it, with real processes."""

import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from consilience.client.sync import Client
from consilience.contract.jobs import JobStatus
from tests.serving import Serve, gone, kill, read_url, serve, start, until


@pytest.fixture(scope="module")
def slow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose neighbour graph takes several seconds."""
    path = tmp_path_factory.mktemp("slow") / "slow.npy"
    np.save(path, np.random.default_rng(0).standard_normal((60_000, 64)).astype(np.float16))
    return path


def test_kill_9_of_the_service_leaves_no_process(slow_file: Path, tmp_path: Path) -> None:
    process = start(data_dir=tmp_path / "data")
    with Client(read_url(process, tmp_path / "data")) as client:
        alignment = client.align(slow_file, slow_file, metrics=["mutual_knn"])
        until(lambda: alignment.refresh().status == JobStatus.RUNNING)
    descendants = psutil.Process(process.pid).children(recursive=True)
    assert len(descendants) >= 5, "Redis, the API, deliveries, the worker, and the job's own process"
    process.kill()
    process.communicate()
    until(lambda: gone(descendants), timeout_s=3)


def test_data_and_jobs_survive_kill_9(slow_file: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.npy"
    np.save(small, np.random.default_rng(0).standard_normal((64, 8)))
    process = start(data_dir=tmp_path / "data")
    with Client(read_url(process, tmp_path / "data")) as client:
        begun = client.align(slow_file, slow_file, metrics=["mutual_knn"])
        waiting = client.align(small, small, metrics=["cka"])
    process.kill()
    process.communicate()
    with serve(data_dir=tmp_path / "data") as again, Client(again.url) as client:
        client.cancel(begun.id)
        assert client.wait(waiting.id, timeout_s=20).status == JobStatus.SUCCEEDED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_child_while_a_job_runs(number: signal.Signals, slow_file: Path, tmp_path: Path) -> None:
    process = start(data_dir=tmp_path / "data", env={"CONSILIENCE_STOP_GRACE_S": "0"})
    with Client(read_url(process, tmp_path / "data")) as client:
        alignment = client.align(slow_file, slow_file, metrics=["mutual_knn"])
        until(lambda: alignment.refresh().status == JobStatus.RUNNING)
    descendants = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait(15) == 0
    assert gone(descendants)
    process.communicate()
    assert not (tmp_path / "data" / "redis.sock").exists()


def test_each_dead_child_is_restarted_and_jobs_continue(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((64, 8)))
    with serve() as running, Client(running.url, retry_timeout_s=20) as client:
        stored = client.upload(tmp_path / "a.npy")
        for word in ("service", "service.deliveries", "workers", "valkey-server"):
            victim = running.child(word)
            kill(victim)
            until(lambda victim=victim: gone([victim]))
            until(lambda word=word: any_child(running, word))
            assert client.align(stored, stored).wait(timeout_s=20).scores[0].value == 1.0


def any_child(running: Serve, word: str) -> bool:
    try:
        return bool(running.child(word))
    except (StopIteration, psutil.NoSuchProcess):
        return False


def test_a_second_service_on_the_same_folder_is_refused() -> None:
    with serve() as running:
        second = start(data_dir=running.data_dir)
        assert second.wait(10) == 2
        second.communicate()
        log = (running.data_dir.parent / "serve.log").read_text()
        assert f"{running.data_dir} is in use by process {running.process.pid}" in log
        with Client(running.url) as client:
            assert client.info().name == "consilience"


def test_a_redis_of_the_users_own_is_used_and_none_is_started(redis_url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((64, 8)))
    with serve(env={"CONSILIENCE_REDIS_URL": redis_url}) as running, Client(running.url) as client:
        assert not any_child(running, "valkey-server")
        client.align(tmp_path / "a.npy", tmp_path / "a.npy").wait(timeout_s=20)


def test_settings_that_the_service_refuses_end_the_start_with_its_message(tmp_path: Path) -> None:
    process = start("--host", "0.0.0.0", data_dir=tmp_path / "data")  # noqa: S104 -- it is refused
    assert process.wait(20) == 2
    process.communicate()
    log = (tmp_path / "serve.log").read_text()
    assert "CONSILIENCE_ALLOW_UNAUTHENTICATED" in log
    assert "The API does not start" in log
