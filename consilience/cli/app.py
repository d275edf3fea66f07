"""The commands together, and how each error becomes a message and an exit status."""

import sys
import traceback
from typing import Annotated

import stamina
import stamina.instrumentation
import typer

from consilience import __version__
from consilience.cli import datasets, jobs, keys, maps, references
from consilience.cli.check import check
from consilience.cli.datasets import upload
from consilience.cli.doctor import doctor
from consilience.cli.errors import Commands, ExitStatus, explain, status_of
from consilience.cli.extract import extract
from consilience.cli.options import Json
from consilience.cli.output import complain, metric_card, metric_table, present, warn
from consilience.cli.parsing import parse_metric
from consilience.cli.score import score
from consilience.cli.serve import serve
from consilience.cli.study import study
from consilience.cli.upgrade import upgrade
from consilience.contract.metrics import METRICS, catalogue, describe
from consilience.errors import ConsilienceError

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Everything about this one.")]


def metrics(name: Name = None, *, as_json: Json = False) -> None:
    """List the metrics and what they say; with a NAME its formula, range, chance level, cost and options."""
    if name is None:
        present(catalogue(), metric_table, as_json=as_json)
    else:
        present(describe(METRICS[parse_metric(name)["metric"]]), metric_card, as_json=as_json)


app = typer.Typer(
    name="consilience",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit status: 0 done or passed, 1 below the bar, 2 bad usage or input, 3 service not reachable, "
    "4 job failed, 5 timed out, 130 interrupted.",
)
for command in (score, check, study, upgrade, upload, extract, serve, metrics, doctor):
    app.command()(command)
app.add_typer(datasets.app, name="datasets")
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(maps.app, name="map")
app.add_typer(references.app, name="reference")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"consilience {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Measure how far embedding spaces agree."""


def run() -> None:
    """Run the command line; the process ends with one of ExitStatus."""
    stamina.instrumentation.set_on_retry_hooks([_tell_retry])
    try:
        app()
    except ConsilienceError as error:
        told, *others = explain(error)
        complain(told)
        for note in others:
            warn(note)
        sys.exit(status_of(error))
    except OSError as error:
        complain(f"{error.filename or 'The output'}: {error.strerror or error}.")
        sys.exit(ExitStatus.BAD_INPUT)
    except Exception:  # noqa: BLE001 -- a defect must not leave with 1, which means "below the bar"
        traceback.print_exc()
        complain("This is a defect of consilience; please report it with the trace above.")
        sys.exit(ExitStatus.JOB_FAILED)


def _tell_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """Say why it takes long, once: stamina's own hooks would write to standard output."""
    if details.retry_num == 1:
        warn("no answer yet, trying again")
