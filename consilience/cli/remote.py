"""Work of a command: on a service or in this process, with a progress bar, a time limit and clear errors."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Protocol

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typer import Option

from consilience.cli.options import SERVER_VARIABLE
from consilience.cli.output import standard_error
from consilience.client.operations import Outcome, result_of
from consilience.client.sync import Client
from consilience.contract.jobs import Job
from consilience.errors import InputError, JobError, StorageFull, Unavailable, WaitTimedOut

#: Seconds for which a command retries a service that does not respond.
RETRY_TIMEOUT_S = 3.0

ServerUrl = Annotated[str, Option("--server", metavar="URL", envvar=SERVER_VARIABLE, help="URL of the service.")]


def connect(url: str) -> Client:
    """Return a client of the service at this URL."""
    return Client(url, retry_timeout_s=RETRY_TIMEOUT_S)


class ProgressReporter(Protocol):
    """Receiver of progress reports."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` parts of a stage are finished."""


@contextmanager
def progress_bar(first_stage: str) -> Iterator[ProgressReporter]:
    """Show a progress bar during the block, on a terminal only; the block receives a function that updates it."""
    console = standard_error()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(first_stage, total=None)

        def report(stage: str, done: int, total: int) -> None:
            progress.update(task, description=stage, completed=done, total=total)

        yield report


def report_job(report: ProgressReporter, job: Job) -> None:
    """Report the progress of a job of the service."""
    if job.progress is not None and not job.finished:
        report(job.progress.stage, job.progress.done, job.progress.total)
    else:
        report(str(job.status), int(job.finished), 1)


DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="CONSILIENCE_DATA_DIR",
        file_okay=False,
        help="Data folder of the service.",
        show_default="~/.local/share/consilience",
    ),
]


def locate_stores(data_dir: Path | None, database_url: str | None = None) -> tuple[Path, str]:
    """Return the data folder and the URL of the database; the environment gives what the command line does not."""
    from consilience.settings import SharedSettings, read_environment  # noqa: PLC0415 -- not every command needs them
    from consilience.standalone.serve import default_data_dir  # noqa: PLC0415 -- not every command needs them

    folder = (data_dir or default_data_dir(os.environ)).expanduser().resolve()
    settings = read_environment(SharedSettings).model_copy(update={"data_dir": folder})
    return folder, database_url or settings.database


#: Longest time limit that a timer is set for: ten years. Timers cannot represent much larger values.
MAX_TIMEOUT_S = 3.2e8


@contextmanager
def local_work(first_stage: str, timeout_s: float | None) -> Iterator[ProgressReporter]:
    """Run the block with a progress bar and a time limit; the block receives a function that reports progress.

    Raises
    ------
    WaitTimedOut
        The time limit has passed. The error is raised when the library call in progress returns.
    InputError
        This machine lacks a resource, such as a device or disk space; no service is involved.
    """
    try:
        with _alarm(timeout_s), progress_bar(first_stage) as report:
            yield report
    except (Unavailable, StorageFull) as error:
        raise InputError(error.detail, value=error.value, limit=error.limit, hint=error.hint) from error


@contextmanager
def _alarm(timeout_s: float | None) -> Iterator[None]:
    if timeout_s is None or timeout_s > MAX_TIMEOUT_S:
        yield
        return

    def raise_timeout(_number: int, _frame: FrameType | None) -> None:
        raise WaitTimedOut(f"The command did not finish within {timeout_s:g} s.", limit=timeout_s)

    previous = signal.signal(signal.SIGALRM, raise_timeout)
    signal.setitimer(signal.ITIMER_REAL, max(timeout_s, 1e-6))  # zero would switch the timer off
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def wait_for_document(
    client: Client, job_id: str, kind: type[Outcome], report: ProgressReporter, timeout_s: float | None
) -> Outcome:
    """Wait for a job and return its document.

    An interruption prints how to cancel the job.

    Raises
    ------
    JobError
        The job has no document, for whatever reason.
    """
    try:
        job = client.wait(job_id, timeout_s=timeout_s, watch=lambda job: report_job(report, job))
    except KeyboardInterrupt:
        standard_error().print(
            f"Job {job_id} is still running; to cancel it, run `consilience jobs cancel {job_id}`.", soft_wrap=True
        )
        raise
    try:
        return result_of(job, kind)
    except JobError:
        raise
    except Exception as error:  # the job failed, whatever the kind of its own error
        raise JobError(f"Job {job.id} failed: {error}", value=job.id) from error
