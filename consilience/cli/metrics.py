"""`consilience metrics`."""

import typer

from consilience.cli.consoles import results
from consilience.cli.options import Json
from consilience.cli.tables import metric_table
from consilience.contract.metrics import catalogue


def metrics(as_json: Json = False) -> None:
    """List the metrics: what they say, their range, their value at chance, their options."""
    if as_json:
        typer.echo(catalogue().model_dump_json(indent=2))
    else:
        results().print(metric_table(catalogue()))
