"""Faults of resources: a full disk, no memory, no processor time, and a clock that jumps."""

import os
import resource
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.faults.kinds import Kind, Scene, wait_for
from benchmarks.faults.live_service import LiveService
from consilience.contract.jobs import Job, JobStatus

CLOCK = Path(__file__).with_name("clock.c")
FULL_S = 8.0
#: What is left on a disk on which the database can write on and a graph has no room.
SLIVER_BYTES = 700_000
DISK_BYTES = 256 * 2**20
JUMPS_S = (3600, -3600, 30 * 86_400)
#: A poisonous job: minutes of computing, where a process may compute for this many seconds and the parent for some more.
HEAVY = {"metrics": ["rsa"], "null": {"method": "permutation", "permutations": 20_000}}
CPU_S = 4
#: What a starved worker's job may have beyond its worker: enough for all but the large one.
ROOM_BYTES = 160_000_000
LARGE = {"metrics": ["rsa"], "null": {"method": "none"}, "interval": None}
LARGE_ROWS = (12_000, 32)
CRASHES_MAX = 3
#: A bad job dies three times in seconds, where others leave it a processor.
BAD_JOB_S = 300.0


@contextmanager
def small_disk(folder: Path) -> Iterator[dict[str, str]]:
    """Mount the folder as a small disk; needs root."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield {}
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def own_clock(folder: Path) -> Iterator[dict[str, str]]:
    """Give processes a wall clock that can be moved; needs a C compiler."""
    library, offset = folder / "clock.so", folder / "offset"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(CLOCK)], check=True)
    offset.write_bytes(struct.pack("q", 0))
    yield {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(offset)}


@contextmanager
def fill_disk(scene: Scene) -> Iterator[None]:
    """Fill the disk completely for eight seconds, while uploads and jobs continue to arrive."""
    ballast = _fill(scene.live, 0)
    with scene.client() as client:
        answer = client.post(
            "/v1/embeddings", content=_npy_of(50_000), headers={"content-type": "application/x-npy"}, timeout=30
        )
    if answer.status_code != 507:
        scene.remarks.append(f"an upload to a full disk: {answer.status_code} {answer.text[:200]}")
    time.sleep(FULL_S)
    ballast.unlink()
    yield


@contextmanager
def fill_disk_but_for_rows(scene: Scene) -> Iterator[None]:
    """Leave room for rows of the database, but not for the graph of a job: its score must be correct."""
    with scene.client() as client:
        embedding = scene.load.upload(client, (6000, 16), seed=time.monotonic_ns())
        ballast = _fill(scene.live, SLIVER_BYTES)
        began = time.monotonic()
        options = {"metrics": ["mutual_knn"], "null": {"method": "none"}, "interval": None}
        job_id = scene.load.submit(client, embedding, options, 0)
        with suppress(TimeoutError):
            wait_for(lambda: scene.live.jobs.get(job_id).finished, 30)
        if not scene.live.jobs.get(job_id).finished:
            scene.remarks.append(f"no score {time.monotonic() - began:.0f} s after the disk was full")
    ballast.unlink()
    yield


@contextmanager
def jump_clock(scene: Scene) -> Iterator[None]:
    """Move the wall clock of every process: an hour forward, an hour back, a month forward."""
    path = Path(scene.live.env["CLOCK_OFFSET_FILE"])
    for seconds in JUMPS_S:
        path.write_bytes(struct.pack("q", seconds))
        time.sleep(2.0)
    yield


@contextmanager
def poison(scene: Scene) -> Iterator[None]:
    """Submit a job whose process always dies of SIGXCPU, while other jobs share its workers."""
    for worker in scene.live.children("workers"):
        worker.rlimit(resource.RLIMIT_CPU, (CPU_S + int(sum(worker.cpu_times()[:2])), resource.RLIM_INFINITY))
    job = _run_bad_job(scene, scene.load.slow, HEAVY)
    _expect(scene, job, "job-crashed", CRASHES_MAX)
    yield


@contextmanager
def starve_by_address_space(scene: Scene) -> Iterator[None]:
    """Submit a job that malloc refuses memory."""
    for worker in scene.live.children("workers"):
        worker.rlimit(resource.RLIMIT_AS, (worker.memory_info().vms + ROOM_BYTES, resource.RLIM_INFINITY))
    job = _run_bad_job(scene, _upload_large(scene), LARGE)
    for worker in scene.live.children("workers"):
        worker.rlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    _expect(scene, job, "job-out-of-memory", 0)
    yield


@contextmanager
def starve_by_control_group(scene: Scene) -> Iterator[None]:
    """Submit a job whose process the kernel always kills for its memory."""
    with memory_group(scene.live) as group:
        used = int((group / "memory.usage_in_bytes").read_text())
        (group / "memory.limit_in_bytes").write_text(str(used + ROOM_BYTES))
        job = _run_bad_job(scene, _upload_large(scene), LARGE)
        (group / "memory.limit_in_bytes").write_text("-1")
    _expect(scene, job, "job-out-of-memory", CRASHES_MAX)
    yield


@contextmanager
def memory_group(live: LiveService) -> Iterator[Path]:
    """Move the workers into a control group of their own; needs root and version 1."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next(line.split(":", 2)[2] for line in lines if line.split(":")[1] == "memory")
    parent = Path("/sys/fs/cgroup/memory") / own.lstrip("/")
    group = parent / f"faults-{os.getpid()}"
    group.mkdir()
    try:
        for worker in live.children("workers"):
            for each in (worker, *worker.children()):
                with suppress(ProcessLookupError):
                    (group / "cgroup.procs").write_text(str(each.pid))
        yield group
    finally:
        wait_for(lambda: _dissolve(group, parent))


def _dissolve(group: Path, parent: Path) -> bool:
    """Remove the control group; return whether it is gone, since killed processes remain for a moment."""
    for pid in (group / "cgroup.procs").read_text().split():
        with suppress(ProcessLookupError):
            (parent / "cgroup.procs").write_text(pid)
    with suppress(OSError):
        group.rmdir()
    return not group.exists()


def _run_bad_job(scene: Scene, embedding: str, options: dict[str, object]) -> Job:
    with scene.client() as client:
        job_id = scene.load.submit(client, embedding, options, 0)
    scene.failing.add(job_id)
    with suppress(TimeoutError):
        wait_for(lambda: scene.live.jobs.get(job_id).finished, BAD_JOB_S)
    return scene.live.jobs.get(job_id)


def _expect(scene: Scene, job: Job, code: str, crashes: int) -> None:
    ended = [run.ended for run in job.runs]
    said = job.error.type.rsplit("/", 1)[-1] if job.error else None
    right = [*["crashed"] * crashes] if crashes else ["failed"]
    if (job.status, said, ended) != (JobStatus.FAILED, code, right):
        scene.remarks.append(f"{job.status} {said} {ended}, expected {code} {right}: {job.error and job.error.detail}")


def _upload_large(scene: Scene) -> str:
    with scene.client() as client:
        return scene.load.upload(client, LARGE_ROWS, seed=7)


def _fill(live: LiveService, leave: int) -> Path:
    path = live.data_dir / "ballast"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65_536))
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))
    os.truncate(path, path.stat().st_size - leave)
    return path


def _npy_of(rows: int) -> bytes:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 100), }}"
    return b"\x93NUMPY\x01\x00v\x00" + head.ljust(117).encode() + b"\n" + struct.pack("f", time.time()) * (rows * 100)


SCARCITIES = (
    Kind("a full disk for 8 s, uploads and jobs going on", fill_disk, settings=small_disk),
    Kind("a disk without room for a graph", fill_disk_but_for_rows, clients=0, settings=small_disk),
    Kind("the wall clock jumps an hour on, an hour back, a month on", jump_clock, settings=own_clock),
    Kind("a poisonous job: its process dies each time", poison, clients=1),
    Kind("a job for which malloc has no memory", starve_by_address_space, clients=1),
    Kind("a job that the kernel kills for its memory", starve_by_control_group, clients=1),
)
