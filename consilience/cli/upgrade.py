"""`consilience upgrade OLD NEW`: what a swap of the embedding model asks of an index."""

from pathlib import Path
from typing import Annotated

import typer

from consilience.cli.gates import close_gate
from consilience.cli.groups import Service
from consilience.cli.options import Json, file_to_write
from consilience.cli.output import check_out
from consilience.cli.unfolding import unfold
from consilience.cli.upgrade_bars import judge, parse_bar, reached_table
from consilience.cli.upgrade_options import (
    Asking,
    Counting,
    Inputs,
    Judging,
    LabelFiles,
    Maps,
    read_upgrade_options,
)
from consilience.cli.upgrade_output import SUFFIXES, show_report
from consilience.cli.upgrade_work import obtain_report

Old = Annotated[
    str, typer.Argument(metavar="OLD", help="The documents by the old model: a file; with --server also an id.")
]
New = Annotated[str, typer.Argument(metavar="NEW", help="The same documents by the new model.")]
Least = Annotated[
    list[str] | None,
    typer.Option("--min", metavar="NAME[:WAY]=VALUE", help="The least value of a figure. Repeatable; all must hold."),
]
Out = Annotated[Path | None, file_to_write("Write the report here: .json, .md or .html.")]


@unfold
def upgrade(
    old: Old,
    new: New,
    *,
    asking: Asking,
    maps: Maps = None,
    counting: Counting,
    labels: LabelFiles,
    judging: Judging,
    least: Least = None,
    out: Out = None,
    as_json: Json = False,
    service: Service,
) -> None:
    """Say whether an index survives a swap of its embedding model: keep, adapt or re-embed.

    With --min it is a gate: status 1 where a figure is below its bar. recall, judged, retained and gain are those of the best
    way on the old index unless one is named.
    """
    bars = [parse_bar(word) for word in least or ()]
    check_out(out, SUFFIXES)
    options = read_upgrade_options(counting, judging, maps)
    report = obtain_report(Inputs.read((old, new), asking, labels), options, service)
    found = judge(report, bars)
    show_report(report, as_json=as_json, out=out)
    if found:
        close_gate(reached_table(found), (reached.passed for reached in found), as_json=as_json)
