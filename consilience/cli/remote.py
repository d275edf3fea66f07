"""The service that a command talks to."""

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
from consilience.cli.output import remarks
from consilience.client.operations import Outcome, result_of
from consilience.client.sync import Client
from consilience.contract.jobs import Job
from consilience.errors import InputError, JobError, StorageFull, Unavailable, WaitTimedOut

#: Seconds that a person at a terminal waits for a service that does not answer.
PATIENCE_S = 3.0

Address = Annotated[str, Option("--server", metavar="URL", envvar=SERVER_VARIABLE, help="The service.")]


def connect(url: str) -> Client:
    """A client of the service at this address."""
    return Client(url, retry_timeout_s=PATIENCE_S)


class Report(Protocol):
    """Told how far the work is."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` parts of a stage are finished."""


@contextmanager
def progress_bar(first_stage: str) -> Iterator[Report]:
    """A bar that lives as long as the block; it is moved by calling what the block is given."""
    console = remarks()
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


def follow(report: Report, job: Job) -> None:
    """Show where a job of the service stands."""
    if job.progress is not None and not job.finished:
        report(job.progress.stage, job.progress.done, job.progress.total)
    else:
        report(str(job.status), int(job.finished), 1)


DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="CONSILIENCE_DATA_DIR",
        file_okay=False,
        help="The service's data folder.",
        show_default="~/.local/share/consilience",
    ),
]


def locate_stores(data_dir: Path | None, database_url: str | None = None) -> tuple[Path, str]:
    """The data folder and the database's URL, of which the environment says what the command line does not."""
    from consilience.settings import Surroundings, read_environment  # noqa: PLC0415 -- not every command needs them
    from consilience.standalone.serve import default_data_dir  # noqa: PLC0415 -- not every command needs them

    folder = (data_dir or default_data_dir(os.environ)).expanduser().resolve()
    there = read_environment(Surroundings).model_copy(update={"data_dir": folder})
    return folder, database_url or there.database


#: Ten years: beyond that a timer has no number, and nobody waits.
LONGEST_S = 3.2e8


@contextmanager
def work_here(first_stage: str, timeout_s: float | None) -> Iterator[Report]:
    """A block of work; it is given whom to tell how far it is.

    Raises
    ------
    WaitTimedOut
        After so many seconds: at the latest when the library call in progress returns.
    InputError
        This machine lacks something, such as the device or the room: no service is out of reach.
    """
    try:
        with _alarm(timeout_s), progress_bar(first_stage) as report:
            yield report
    except (Unavailable, StorageFull) as error:
        raise InputError(error.detail, value=error.value, limit=error.limit, hint=error.hint) from error


@contextmanager
def _alarm(timeout_s: float | None) -> Iterator[None]:
    if timeout_s is None or timeout_s > LONGEST_S:
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise WaitTimedOut(f"Not finished after {timeout_s:g} s.", limit=timeout_s)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(timeout_s, 1e-6))  # zero would switch it off
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def await_document(
    client: Client, job_id: str, kind: type[Outcome], report: Report, timeout_s: float | None
) -> Outcome:
    """The document of a job; JobError where it has none, whatever the reason.

    Whoever interrupts is told how to stop the job.
    """
    try:
        job = client.wait(job_id, timeout_s=timeout_s, watch=lambda seen: follow(report, seen))
    except KeyboardInterrupt:
        remarks().print(f"Job {job_id} goes on; `consilience jobs cancel {job_id}` stops it.", soft_wrap=True)
        raise
    try:
        return result_of(job, kind)
    except JobError:
        raise
    except Exception as error:  # the job's own error, of whatever kind: what failed is the job
        raise JobError(f"Job {job.id} failed: {error}", value=job.id) from error
