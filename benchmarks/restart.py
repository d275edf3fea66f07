"""Restart of a killed child of `consilience serve`: time until it has a successor, and until that works.

A worker, the API and the embedded Redis are each killed by kill -9 while the service has no other requests. Processor
seconds are those that the successor took to become ready: a busy machine lets it wait, and the clock shows more.
"""

import os
import time
from collections.abc import Callable

import httpx2
import psutil
from redis import Redis

from tests.serving import Serve, kill, serve, until

ROUNDS = 3
#: A child that lived for less counts as one that does not come up, and is given a pause.
SOUND_LIFE_S = 5.5


def measure() -> dict[str, object]:
    """Measure the longest time over several rounds, for each child."""
    with serve() as service:
        checks = {"workers": _worker_check, "service": _api_check, "valkey-server": _redis_check}
        found = {word: [_kill(service, word, make(service)) for _ in range(ROUNDS)] for word, make in checks.items()}
    return {
        word: {
            "again_s": round(max(again for again, _, _ in rounds), 2),
            "ready_s": round(max(ready for _, ready, _ in rounds), 2),
            "processor_s": round(max(seconds for _, _, seconds in rounds), 2),
        }
        for word, rounds in found.items()
    } | {"load_of_the_machine": round(os.getloadavg()[0], 1)}


def _kill(service: Serve, word: str, ready: Callable[[], bool]) -> tuple[float, float, float]:
    time.sleep(SOUND_LIFE_S)
    victim = service.child(word)
    began = time.monotonic()
    kill(victim)
    until(lambda: _successor(service, word, victim.pid) is not None)
    again = time.monotonic() - began
    until(ready)
    seconds = time.monotonic() - began
    times = service.child(word).cpu_times()
    return again, seconds, times.user + times.system


def _successor(service: Serve, word: str, before: int) -> psutil.Process | None:
    try:
        child = service.child(word)
    except (StopIteration, psutil.Error):
        return None
    return child if child.pid != before else None


def _worker_check(service: Serve) -> Callable[[], bool]:
    """Another line that a worker is ready than those before."""
    log = service.data_dir.parent / "serve.log"
    count = log.read_text().count('"worker_ready"')
    seen = [count]

    def ready() -> bool:
        now = log.read_text().count('"worker_ready"')
        if now <= seen[0]:
            return False
        seen[0] = now
        return True

    return ready


def _api_check(service: Serve) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return httpx2.get(f"{service.url}/readyz", timeout=2).is_success
        except httpx2.TransportError:
            return False

    return ready


def _redis_check(service: Serve) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            with Redis(unix_socket_path=str(service.data_dir / "redis.sock"), socket_timeout=1) as client:
                return bool(client.ping())
        except OSError:
            return False

    return ready
