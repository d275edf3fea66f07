"""`consilience jobs`: list, show, cancel and watch jobs."""

from typing import Annotated

import typer

from consilience.cli.errors import ExitStatus
from consilience.cli.options import Json, Limit, OutputOptions, Timeout
from consilience.cli.output import job_table, output_scores, print_document, print_error
from consilience.cli.remote import ServerUrl, connect, progress_bar, report_job
from consilience.client.transport import DEFAULT_URL
from consilience.contract.jobs import Job, JobStatus
from consilience.contract.scores import ScoreDocument

app = typer.Typer(help="List, show, cancel and watch the jobs of a service.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(metavar="ID", help="Id of the job, job_...")]


@app.command("list")
def list_jobs(
    server: ServerUrl = DEFAULT_URL,
    status: Annotated[JobStatus | None, typer.Option(help="List only jobs with this status.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List the newest jobs."""
    with connect(server) as client:
        page = client.jobs(status=status, limit=limit)
    print_document(page, lambda page: job_table(page.data), as_json=as_json)


@app.command("show")
def show_job(job_id: JobId, server: ServerUrl = DEFAULT_URL, as_json: Json = False) -> None:
    """Show the status of a job, and its scores or its error."""
    with connect(server) as client:
        _print(client.job(job_id), as_json=as_json)


@app.command("cancel")
def cancel_job(job_id: JobId, server: ServerUrl = DEFAULT_URL, as_json: Json = False) -> None:
    """Cancel a job; a finished job does not change."""
    with connect(server) as client:
        _print(client.cancel(job_id), as_json=as_json)


@app.command("watch")
def watch_job(job_id: JobId, server: ServerUrl = DEFAULT_URL, timeout: Timeout = None, as_json: Json = False) -> None:
    """Wait for a job with a progress bar; exit status 4 if the job does not succeed."""
    with connect(server) as client, progress_bar("waiting") as report:
        job = client.wait(job_id, timeout_s=timeout, watch=lambda job: report_job(report, job))
    _print(job, as_json=as_json)
    if job.status != JobStatus.SUCCEEDED:
        raise typer.Exit(ExitStatus.JOB_FAILED)


def _print(job: Job, *, as_json: bool) -> None:
    print_document(job, lambda job: job_table([job]), as_json=as_json)
    if as_json:
        return
    if job.error is not None:
        print_error(f"{job.error.title}: {job.error.detail}")
    elif isinstance(job.result, ScoreDocument):
        output_scores(job.result, OutputOptions())
