"""The command line as a whole: all commands, `consilience metrics`, and the message and exit status of each error."""

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
from consilience.cli.errors import CommandGroup, ExitStatus, describe_error, exit_status
from consilience.cli.extract import extract
from consilience.cli.options import Json
from consilience.cli.output import metric_card, metric_table, print_document, print_error, print_warning
from consilience.cli.parsing import parse_metric
from consilience.cli.score import score
from consilience.cli.serve import serve
from consilience.cli.study import study
from consilience.cli.upgrade import upgrade
from consilience.contract.metrics import METRICS, catalogue, describe
from consilience.errors import ConsilienceError

MetricName = Annotated[str | None, typer.Argument(metavar="NAME", help="Metric to describe in full.")]


def metrics(name: MetricName = None, *, as_json: Json = False) -> None:
    """List all metrics, or describe one: its formula, range, chance level, cost and options."""
    if name is None:
        print_document(catalogue(), metric_table, as_json=as_json)
    else:
        print_document(describe(METRICS[parse_metric(name)["metric"]]), metric_card, as_json=as_json)


app = typer.Typer(
    name="consilience",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit status: 0 done or passed, 1 if a check failed, 2 bad usage or input, 3 service not reachable, "
    "4 job failed, 5 timed out, 130 interrupted.",
)
for command in (score, check, study, upgrade, upload, extract, serve, metrics, doctor):
    app.command()(command)
app.add_typer(datasets.app, name="datasets")
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(maps.app, name="map")
app.add_typer(references.app, name="reference")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"consilience {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure how far embedding spaces agree."""


def run() -> None:
    """Run the command line and exit with a member of ExitStatus."""
    stamina.instrumentation.set_on_retry_hooks([_warn_of_retry])
    try:
        app()
    except ConsilienceError as error:
        message, *further = describe_error(error)
        print_error(message)
        for each in further:
            print_warning(each)
        sys.exit(exit_status(error))
    except OSError as error:
        print_error(f"{error.filename or 'The output'} cannot be read or written: {error.strerror or error}.")
        sys.exit(ExitStatus.BAD_INPUT)
    except Exception:  # noqa: BLE001 -- a defect must not end with 1, which means "below a threshold"
        traceback.print_exc()
        print_error("This is a bug in consilience; please report it with the traceback above.")
        sys.exit(ExitStatus.JOB_FAILED)


def _warn_of_retry(details: stamina.instrumentation.RetryDetails) -> None:
    """Warn once that a request is repeated; the hooks of stamina would write to standard output."""
    if details.retry_num == 1:
        print_warning("The service does not respond; trying again.")
