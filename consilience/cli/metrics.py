"""`consilience metrics`."""

from typing import Annotated

import typer

from consilience.cli.metric_words import parse_metric
from consilience.cli.options import Json
from consilience.cli.output import present
from consilience.cli.tables import metric_card, metric_table
from consilience.contract.metrics import METRICS, catalogue, describe

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Everything about this one.")]


def metrics(name: Name = None, *, as_json: Json = False) -> None:
    """List the metrics and what they say; with a NAME its formula, range, chance level, cost and options."""
    if name is None:
        present(catalogue(), metric_table, as_json=as_json)
    else:
        present(describe(METRICS[parse_metric(name)["metric"]]), metric_card, as_json=as_json)
