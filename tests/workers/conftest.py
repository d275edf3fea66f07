"""Real workers as processes, a fast reconciler, and jobs that do what they are told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consilience.stores.database import Database
from service.reconciler import Reconciler
from tests.workers.yard import PACE, Yard


@pytest.fixture
def yard(database: Database, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(database, database_url, redis_url, tmp_path)
    yield yard
    yard.close()


@pytest.fixture
def reconciler(yard: Yard) -> Iterator[Reconciler]:
    reconciler = Reconciler(yard.leases, yard.queue, PACE)
    reconciler.start()
    yield reconciler
    reconciler.stop()
