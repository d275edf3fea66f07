"""The API process from the start of the interpreter to /readyz, with its resident memory then; and `import consilience`."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from statistics import median

import httpx2
import psutil

from tests.serving import serve

ROUNDS = 5
IMPORT_ROUNDS = 20


def measure() -> dict[str, object]:
    """Median seconds to ready on a fresh and on a migrated database, megabytes resident, and milliseconds of the import."""
    with serve() as service, tempfile.TemporaryDirectory() as folder:
        redis = service.child("service").environ()["CONSILIENCE_REDIS_URL"]
        fresh = [_start(f"{folder}/{index}", redis) for index in range(ROUNDS)]
        again = [_start(f"{folder}/0", redis) for _ in range(ROUNDS)]
    return {
        "ready_on_a_new_database_p50_s": round(median(seconds for seconds, _ in fresh), 2),
        "ready_p50_s": round(median(seconds for seconds, _ in again), 2),
        "resident_mb": round(max(megabytes for _, megabytes in fresh + again), 1),
        "import_above_bare_interpreter_p50_ms": round(_import_ms(), 1),
    }


def _import_ms() -> float:
    """Median milliseconds of an interpreter that imports the package less those of one that does nothing, in turn."""
    rounds = [(_run_ms("import consilience"), _run_ms("pass")) for _ in range(IMPORT_ROUNDS)]
    return median(importing for importing, _ in rounds) - median(bare for _, bare in rounds)


def _run_ms(program: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return (time.perf_counter() - started) * 1000


def _start(folder: str, redis: str) -> tuple[float, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {
        "CONSILIENCE_PORT": str(port),
        "CONSILIENCE_DATA_DIR": folder,
        "CONSILIENCE_REDIS_URL": redis,
    }
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "service"], env=env, stderr=subprocess.DEVNULL)
    try:
        while not _ready(port):
            time.sleep(0.01)
        return time.perf_counter() - started, psutil.Process(process.pid).memory_info().rss / 1e6
    finally:
        process.terminate()
        process.wait(timeout=20)


def _ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False
