"""`consilience doctor`."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilience.cli.consoles import remarks, results
from consilience.cli.statuses import ExitStatus
from consilience.cli.tables import new_table
from consilience.errors import MissingExtra

if TYPE_CHECKING:
    from consilience.stores.examination import Report


def doctor(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="CONSILIENCE_DATA_DIR",
            file_okay=False,
            help="The service's data folder.",
            show_default="~/.local/share/consilience",
        ),
    ] = None,
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Examine a service's data folder and database: does each record have its bytes, is each row possible.

    Nothing is changed, and the service may run meanwhile. Status 1 if something is lost or wrong.
    """
    report = _examine(data_dir, database_url, deep=deep)
    if as_json:
        typer.echo(json.dumps({"sound": report.sound, **asdict(report)}, indent=2))
    else:
        _print(report)
    if not report.sound:
        raise typer.Exit(ExitStatus.BELOW_BAR)


def _examine(data_dir: Path | None, database_url: str | None, *, deep: bool) -> "Report":
    try:
        from consilience.standalone.serve import default_data_dir  # noqa: PLC0415 -- only this command needs them
        from consilience.stores.examination import examine  # noqa: PLC0415 -- the same
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"An examination of the stores needs {error.name}.",
            value=error.name,
            hint="Run: pip install 'consilience[service]'",
        ) from error
    folder = (data_dir or default_data_dir(os.environ)).expanduser().resolve()
    return examine(database_url or f"sqlite:///{folder / 'consilience.db'}", folder, deep=deep)


def _print(report: "Report") -> None:
    if report.findings:
        table = new_table("severity", "kind", "subject", "detail", left=("severity", "kind", "subject", "detail"))
        for finding in report.findings:
            table.add_row(finding.severity, finding.kind, finding.subject, finding.detail)
        results().print(table)
    looked_at = f"{report.jobs} jobs, {report.sets} sets, {report.blobs} blobs"
    remarks().print(f"{looked_at}: {'sound' if report.sound else 'not sound'}.", soft_wrap=True)
