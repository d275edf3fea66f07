"""What a worker's parent imports before it forks for a job: the libraries that the job's models run on.

Importing them takes seconds, loading a small model tenths of one. So they are imported once, when the first job needs them,
and every later fork has them; an idle worker is as small as any. The weights themselves are each job's own: see the decision
on models between jobs.
"""

import structlog

from consilience.contract.jobs import Job
from consilience.models.opening import load_libraries
from consilience.stores.access import EVERYTHING
from consilience.stores.database import Database
from consilience.stores.jobs import JobRecords
from workers.horse import freeze_memory


def warm_up(job_id: str, database: Database) -> None:
    """Import what the models of a job need. The job itself says what is wrong, so nothing is raised."""
    try:
        models = models_of(JobRecords(database, EVERYTHING).get(job_id))
        for model in models:
            load_libraries(model)
    except Exception as error:  # noqa: BLE001 - libraries raise anything; the fork meets the same error, and reports it
        structlog.get_logger().warning("not_warmed", job=job_id, cause=repr(error))
    else:
        if models:
            freeze_memory()


def models_of(job: Job) -> list[str]:
    """The models that a job names, alone or in its sides."""
    wishes = (job.request, *(job.request.get(side) for side in "ab"))
    return [wish["model"] for wish in wishes if isinstance(wish, dict) and isinstance(wish.get("model"), str)]
