"""A progress bar on standard error; nothing at all where that is not a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from consilience.cli.consoles import remarks
from consilience.contract.jobs import Job


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
