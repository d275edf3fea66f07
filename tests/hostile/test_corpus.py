"""A corpus of attacks: each is refused quickly, in little memory, and nothing of it is stored.

`make hostile` runs this file alone and prints the worst cases.
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.hostile.corpus import arrays, forms, items, maps, requests, tables, transfers
from tests.hostile.corpus.attack import Attack
from tests.hostile.cost_report import AttackCost, CostReport
from tests.service.servers import Server, running_service

CORPUS: dict[str, Attack] = {
    **arrays.ATTACKS,
    **tables.ATTACKS,
    **items.ATTACKS,
    **maps.ATTACKS,
    **forms.ATTACKS,
    **requests.ATTACKS,
    **transfers.ATTACKS,
}
#: What the service promises is 2 s and 200 MB on an idle machine. Tests share theirs with others, which does not change the
#: work that it takes; what is waited for on purpose is half a second here (`upload_idle_limit_s`).
SECONDS = 10.0
WORK_S = 2.0
#: The table that is never empty: the version of the others.
SCHEMA = {"alembic_version"}
GROWTH_BYTES = 200 * 1024 * 1024
#: Made by the code in pickles, if ever one of them is run.
TRACE = Path("/tmp/consilience-was-here")  # noqa: S108 - its very name is what is looked for


class Watch:
    """Repeated measurement of the resident memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        self._pid, self._stopped = pid, threading.Event()
        self.first = self.most = _resident(pid)
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(0.003):
            self.most = max(self.most, _resident(self._pid))


def _resident(pid: int) -> int:
    """Resident bytes of the process and of its running children."""
    total = 0
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        total = int(fields[1]) * 4096
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_resident(int(child)) for child in (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError, IndexError):
        pass
    return total


def _processor_s(pid: int) -> float:
    """Processor seconds of the process, including its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def target(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with real limits, except for those that would take a test too long or too many bytes to reach."""
    limits = {
        "upload_limit_bytes": 64 * 1024 * 1024,
        "items_limit": 100_000,
        "job_flops_limit": 1e7,
        "upload_idle_limit_s": 0.5,
        "connection_idle_limit_s": 0.5,
    }
    with running_service(tmp_path_factory.mktemp("corpus"), f"{redis_server}?db=6", **limits) as server:
        yield server


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_input_is_refused_quickly_and_cheaply(target: Server, cost_report: CostReport, name: str) -> None:
    send = CORPUS[name].ready()
    started, worked = time.monotonic(), _processor_s(target.process.pid)
    with Watch(target.process.pid) as watch:
        outcome = send(target.url)
        seconds = time.monotonic() - started
    worked = _processor_s(target.process.pid) - worked
    cost_report.add(AttackCost(name, seconds, worked, watch.most - watch.first, outcome.status))

    assert outcome.status == 0 or 400 <= outcome.status < 500, outcome
    assert outcome.status == 0 or (outcome.media_type, bool(outcome.problem)) == ("application/problem+json", True)
    assert seconds < SECONDS
    assert worked < WORK_S
    assert watch.most - watch.first < GROWTH_BYTES
    assert target.process.poll() is None
    _wait_until_empty(target)
    assert not TRACE.exists()


def _wait_until_empty(server: Server) -> None:
    """Wait until the server has removed the remains of a disconnected client."""
    deadline = time.monotonic() + 5
    while (left := server.contents())["files"] or any(left["rows"][table] for table in left["rows"].keys() - SCHEMA):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 80
