"""`consilience doctor`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilience.cli.errors import ExitStatus, packages_of
from consilience.cli.options import Json
from consilience.cli.output import emit, new_table, remarks, results
from consilience.cli.remote import DataDir, locate_stores

if TYPE_CHECKING:
    from consilience.stores.integrity import Report


def doctor(
    data_dir: DataDir = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="CONSILIENCE_DATABASE_URL",
            show_envvar=True,
            help="The service's database.",
            show_default="SQLite in the data folder",
        ),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte and compare it with its digest.")] = False,
    as_json: Json = False,
) -> None:
    """Examine a service's data folder and database: does each record have its bytes, is each row possible.

    Nothing is changed, and the service may run meanwhile. Status 1 if something is lost or wrong.
    """
    report = _examine(data_dir, database_url, deep=deep)
    if as_json:
        emit(json.dumps({"sound": report.sound, **asdict(report)}, indent=2))
    else:
        _print(report)
    if not report.sound:
        raise typer.Exit(ExitStatus.BELOW_BAR)


def _examine(data_dir: Path | None, database_url: str | None, *, deep: bool) -> "Report":
    with packages_of("service", "An examination of the stores", by_service=False):
        from consilience.stores.integrity import examine  # noqa: PLC0415 -- only this command needs it

        folder, url = locate_stores(data_dir, database_url)
    return examine(url, folder, deep=deep)


def _print(report: "Report") -> None:
    if report.findings:
        table = new_table("severity", "kind", "subject", "detail", left=("severity", "kind", "subject", "detail"))
        for finding in report.findings:
            table.add_row(finding.severity, finding.kind, finding.subject, finding.detail)
        results().print(table)
    looked_at = f"{report.jobs} jobs, {report.sets} sets, {report.datasets} datasets, {report.blobs} blobs"
    remarks().print(f"{looked_at}: {'sound' if report.sound else 'not sound'}.", soft_wrap=True)
