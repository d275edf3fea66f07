"""What is said of a run while it runs."""

import time

import pytest

from consilience.contract.jobs import Progress
from consilience.stores.database import Database
from consilience.stores.leases import Leases
from workers.attempts import ProgressWriter

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
PAUSE_S = 0.05


def test_steps_of_an_earlier_run_do_not_shorten_the_remaining_time(database: Database) -> None:
    writer = ProgressWriter(Leases(database), ("job_" + "0" * 32, 1), lambda _stage: None)
    writer.report("embedding", 900, 1000)
    assert writer.latest == Progress(stage="embedding", done=900, total=1000), "nothing is known of this run's pace yet"
    time.sleep(PAUSE_S)
    writer.report("embedding", 910, 1000)
    assert writer.latest.eta_s is not None
    assert writer.latest.eta_s >= 9 * PAUSE_S, "ninety items are left, and ten took the pause"
    writer.report("embedding", 1000, 1000)
    assert writer.latest.eta_s == 0


def test_the_remaining_time_is_estimated_per_stage(database: Database) -> None:
    writer = ProgressWriter(Leases(database), ("job_" + "0" * 32, 1), lambda _stage: None)
    writer.report("loading the model", 0, 1)
    time.sleep(PAUSE_S)
    writer.report("embedding", 0, 10)
    writer.report("embedding", 5, 10)
    assert writer.latest is not None
    assert writer.latest.eta_s is not None
    assert writer.latest.eta_s < PAUSE_S
