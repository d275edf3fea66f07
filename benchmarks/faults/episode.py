"""One kind of fault, caused several times in a service under load."""

import time
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.faults.audit import audit
from benchmarks.faults.kinds import Kind, Scene, running, wait_for
from benchmarks.faults.live_service import LiveService, Postgresql
from benchmarks.faults.load import Load
from benchmarks.faults.watch import Recovery, find_unfinished_jobs, watch

#: What is promised, in seconds: an orphaned job is delivered again, a dead child is started again.
DELIVERED_S, RESTARTED_S = 10.0, 2.0


@dataclass
class Result:
    """Outcome of the jobs, and the longest recovery."""

    kind: str
    database: str
    faults: int = 0
    accepted: int = 0
    finished: int = 0
    lost: int = 0
    doubled: int = 0
    retries: int = 0
    jobs_s: float | None = None
    whole_s: float | None = None
    restart_s: float | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether the service kept every guarantee."""
        return not (self.lost or self.doubled or self.remarks)

    def add(self, recovery: Recovery) -> None:
        """Add the recovery of one fault."""
        self.faults += 1
        for name in ("jobs_s", "whole_s", "restart_s"):
            seconds = getattr(recovery, name)
            if seconds is not None:
                setattr(self, name, round(max(seconds, getattr(self, name) or 0.0), 2))
        if recovery.jobs_s is None or recovery.jobs_s > DELIVERED_S:
            self.remarks.append(f"jobs seen to after {recovery.jobs_s} s")
        if recovery.whole_s is None:
            self.remarks.append("the service did not become whole again")
        if recovery.restart_s is not None and recovery.restart_s > RESTARTED_S:
            self.remarks.append(f"started again after {recovery.restart_s:.1f} s")


def try_kind(kind: Kind, live: LiveService, postgresql: Postgresql | None, database: str, times: int) -> Result:
    """Cause the fault `times` times, wait for the end of every job, and audit the service."""
    result = Result(kind.name, database)
    load = Load(live.url)
    if kind.clients:
        load.start(kind.clients)
    scene = Scene(live, load, postgresql)
    for _ in range(times):
        if kind.clients:
            with suppress(TimeoutError):
                wait_for(lambda: running(scene))
        result.add(strike(kind, scene))
    load.stop()
    account = audit(live, load, frozenset(scene.failing))
    result.accepted, result.finished = account.accepted, account.finished
    result.lost, result.doubled, result.retries = account.lost, account.doubled, load.retries
    result.remarks += account.remarks + scene.remarks
    return result


def strike(kind: Kind, scene: Scene) -> Recovery:
    """Cause the fault once, and measure the recovery of the jobs that were unfinished."""
    before = {child.pid for child in scene.live.children(kind.word)} if kind.word else set()
    with kind.strike(scene):
        # A strike that lasts ends before the clock starts; one that kills is over at once.
        began = time.monotonic()
        return watch(scene.live, find_unfinished_jobs(scene.live), began, kind.word, before)
