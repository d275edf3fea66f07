"""Fuzzing of a service with Schemathesis, for `make fuzz` and the test suite."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import start_redis, stop_process
from tests.service.servers import Server, running_service, running_worker

CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
COMMAND = Path(sys.executable).with_name("schemathesis")
#: Waits are short, cheap jobs alone are run, and webhooks may be asked for: nobody delivers them here.
SETTINGS = {
    "wait_limit_s": 0.2,
    "job_flops_limit": 1e8,
    "webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "webhook_allow": "0.0.0.0/0",
}


@contextmanager
def fuzzed_service(folder: Path, redis_url: str) -> Iterator[Server]:
    """Run a service with a worker and permissive settings."""
    with running_service(folder, redis_url, **SETTINGS) as server, running_worker(server):
        yield server


def fuzz(server: Server, report: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run all phases; findings are printed and written to the JSON report."""
    flags = ["--continue-on-failure", "--report", "json", "--report-json-path", str(report), "--warnings", "off"]
    run = [COMMAND, "--no-color", "--config-file", CONFIG, "run", f"{server.url}/openapi.json", *flags, *words]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)}
    return subprocess.run(
        run, cwd=report.parent, env=environment, capture_output=True, text=True, timeout=3600, check=False
    )


def read_report(report: Path) -> dict[str, Any]:
    """Return the tested `operations` and `phases` and the number of `test_cases` and failures."""
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def main(seconds: str) -> int:
    """Fuzz a new service for about the given time and return the exit status of Schemathesis."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        redis = start_redis(folder / "socket")
        try:
            with fuzzed_service(folder / "data", f"unix://{folder / 'socket'}") as server:
                finished = fuzz(server, folder / "report.json", "--max-time", seconds)
                errors = [line for line in server.log() if line["level"] == "error"]
        finally:
            stop_process(redis)
    sys.stdout.write(finished.stdout + finished.stderr)
    sys.stdout.writelines(f"{json.dumps(line)}\n" for line in errors)
    return finished.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
