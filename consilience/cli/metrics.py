"""`consilience metrics`."""

from typing import Annotated

import typer

from consilience.cli.consoles import results
from consilience.cli.metric_words import parse_metric
from consilience.cli.options import Json
from consilience.cli.tables import metric_card, metric_table
from consilience.contract.metrics import METRICS, Catalogue, catalogue, describe

Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Everything about this one.")]


def metrics(name: Name = None, *, as_json: Json = False) -> None:
    """List the metrics and what they say; with a NAME its formula, range, chance level, cost and options."""
    found = catalogue() if name is None else describe(METRICS[parse_metric(name)["metric"]])
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        results().print(metric_table(found) if isinstance(found, Catalogue) else metric_card(found))
