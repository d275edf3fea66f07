"""Modules that a worker imports before it forks for a job."""

import subprocess
import sys
from typing import Any

import pytest

from consilience.stores.database import Database
from consilience.stores.jobs import JobRecords
from tests.workers.harness import PLAN
from workers.context import find_models, preload

STORED = {"embedding": "emb_" + "0" * 32}
MADE = {"model": "hf:acme/tiny", "dataset": "scenes", "view": "code"}


@pytest.mark.parametrize(
    ("request_", "models"),
    [
        (MADE, ["hf:acme/tiny"]),
        ({"a": STORED, "b": STORED}, []),
        ({"a": MADE, "b": {**MADE, "model": "baseline:random"}}, ["hf:acme/tiny", "baseline:random"]),
        ({"a": {"model": 7}, "b": None, "model": ["x"]}, []),
    ],
)
def test_the_models_of_a_job_are_found(database: Database, request_: dict[str, Any], models: list[str]) -> None:
    job = JobRecords(database).add("extraction", request_, PLAN, ()).job
    assert find_models(job) == models


def test_a_job_that_cannot_be_read_harms_nobody(database: Database) -> None:
    preload("job_" + "0" * 32, database)
    strange = JobRecords(database).add("extraction", {"model": "no identifier"}, PLAN, ()).job
    preload(strange.id, database)


def test_a_worker_loads_no_library_of_models_before_a_job_needs_one() -> None:
    program = (
        "import sys, workers.context, workers.tasks; print({'torch', 'transformers', 'sklearn'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
