"""`consilience jobs`: list, show, cancel, watch."""

from typing import Annotated

import typer

from consilience.cli.errors import ExitStatus
from consilience.cli.options import Json, Limit, Output, Timeout
from consilience.cli.output import complain, job_table, present, show_scores
from consilience.cli.remote import Address, connect, follow, progress_bar
from consilience.client.transport import DEFAULT_URL
from consilience.contract.jobs import Job, JobStatus
from consilience.contract.scores import ScoreDocument

app = typer.Typer(help="Look at the jobs of a service.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="ID", help="job_...")]


@app.command("list")
def list_jobs(
    server: Address = DEFAULT_URL,
    status: Annotated[JobStatus | None, typer.Option(help="Only those.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """The newest jobs."""
    with connect(server) as client:
        page = client.jobs(status=status, limit=limit)
    present(page, lambda page: job_table(page.data), as_json=as_json)


@app.command("show")
def show_job(job_id: JobId, server: Address = DEFAULT_URL, as_json: Json = False) -> None:
    """One job: where it stands, and its scores or its error."""
    with connect(server) as client:
        _print(client.job(job_id), as_json=as_json)


@app.command("cancel")
def cancel_job(job_id: JobId, server: Address = DEFAULT_URL, as_json: Json = False) -> None:
    """Ask for a job's end; a finished job stays as it is."""
    with connect(server) as client:
        _print(client.cancel(job_id), as_json=as_json)


@app.command("watch")
def watch_job(job_id: JobId, server: Address = DEFAULT_URL, timeout: Timeout = None, as_json: Json = False) -> None:
    """Wait for a job, with a progress bar; status 4 if it does not succeed."""
    with connect(server) as client, progress_bar("waiting") as report:
        job = client.wait(job_id, timeout_s=timeout, watch=lambda seen: follow(report, seen))
    _print(job, as_json=as_json)
    if job.status != JobStatus.SUCCEEDED:
        raise typer.Exit(ExitStatus.JOB_FAILED)


def _print(job: Job, *, as_json: bool) -> None:
    present(job, lambda job: job_table([job]), as_json=as_json)
    if as_json:
        return
    if job.error is not None:
        complain(f"{job.error.title}: {job.error.detail}")
    elif isinstance(job.result, ScoreDocument):
        show_scores(job.result, Output())
