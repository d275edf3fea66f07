"""One kind of fault, done several times to a service under load."""

import time
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.faults.audit import audit
from benchmarks.faults.house import House, Postgresql
from benchmarks.faults.kinds import Kind, Scene, running, wait_for
from benchmarks.faults.load import Load
from benchmarks.faults.watch import Recovery, standings, watch

#: What is promised, in seconds: an orphaned job is delivered again, a dead child is started again.
DELIVERED_S, RESTARTED_S = 10.0, 2.0


@dataclass
class Result:
    """What became of the jobs, and the longest recovery."""

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
        """Whether every promise was."""
        return not (self.lost or self.doubled or self.remarks)

    def add(self, recovery: Recovery) -> None:
        """Note one fault's recovery."""
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


def try_kind(kind: Kind, house: House, postgresql: Postgresql | None, database: str, times: int) -> Result:
    """Strike `times` times; then wait for the end of every job and draw the account."""
    result = Result(kind.name, database)
    load = Load(house.url)
    if kind.clients:
        load.start(kind.clients)
    scene = Scene(house, load, postgresql)
    for _ in range(times):
        if kind.clients:
            with suppress(TimeoutError):
                wait_for(lambda: running(scene))
        result.add(strike(kind, scene))
    load.stop()
    account = audit(house, load, frozenset(scene.failing))
    result.accepted, result.finished = account.accepted, account.finished
    result.lost, result.doubled, result.retries = account.lost, account.doubled, load.retries
    result.remarks += account.remarks + scene.remarks
    return result


def strike(kind: Kind, scene: Scene) -> Recovery:
    """Once: what was unfinished just before, the fault, and the watch."""
    before = {child.pid for child in scene.house.children(kind.word)} if kind.word else set()
    with kind.strike(scene):
        # A strike that lasts ends before the clock starts; one that kills is over at once.
        began = time.monotonic()
        return watch(scene.house, standings(scene.house), began, kind.word, before)
