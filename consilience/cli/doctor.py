"""`consilience doctor`: integrity check of the data folder and the database of a service."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilience.cli.errors import ExitStatus, require_extra
from consilience.cli.options import Json
from consilience.cli.output import new_table, standard_error, standard_output, write
from consilience.cli.remote import DataDir, locate_stores

if TYPE_CHECKING:
    from consilience.stores.integrity import IntegrityReport


def doctor(
    data_dir: DataDir = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="CONSILIENCE_DATABASE_URL",
            show_envvar=True,
            help="URL of the database of the service.",
            show_default="SQLite in the data folder",
        ),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read every file and compare its content with its digest.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check that the data folder and the database of a service are complete and consistent.

    The check changes nothing, and the service may be running. The exit status is 1 if data is lost or wrong.
    """
    report = _check(data_dir, database_url, deep=deep)
    if as_json:
        write(json.dumps({"passed": report.passed, **asdict(report)}, indent=2))
    else:
        _print(report)
    if not report.passed:
        raise typer.Exit(ExitStatus.BELOW_THRESHOLD)


def _check(data_dir: Path | None, database_url: str | None, *, deep: bool) -> "IntegrityReport":
    with require_extra("service", "The check of the stores", has_service=False):
        from consilience.stores.integrity import check_integrity  # noqa: PLC0415 -- only this command needs it

        folder, url = locate_stores(data_dir, database_url)
    return check_integrity(url, folder, deep=deep)


def _print(report: "IntegrityReport") -> None:
    if report.issues:
        table = new_table("severity", "kind", "subject", "detail", left=("severity", "kind", "subject", "detail"))
        for issue in report.issues:
            table.add_row(issue.severity, issue.kind, issue.subject, issue.detail)
        standard_output().print(table)
    counts = f"{report.jobs} jobs, {report.sets} sets, {report.datasets} datasets and {report.blobs} blobs"
    standard_error().print(f"Checked {counts}: {'passed' if report.passed else 'failed'}.", soft_wrap=True)
