"""Real worker processes, a fast reconciler, and jobs with scripted behaviour."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consilience.stores.database import Database
from service.reconciler import Reconciler
from tests.workers.harness import TIMING, WorkerHarness


@pytest.fixture
def harness(database: Database, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[WorkerHarness]:
    harness = WorkerHarness(database, database_url, redis_url, tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def reconciler(harness: WorkerHarness) -> Iterator[Reconciler]:
    reconciler = Reconciler(harness.leases, harness.queue, TIMING)
    reconciler.start()
    yield reconciler
    reconciler.stop()
