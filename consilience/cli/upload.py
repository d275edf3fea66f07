"""`consilience upload FILE...`."""

from pathlib import Path
from typing import Annotated

import typer

from consilience.cli.columns import read_optional
from consilience.cli.connection import Address, connect
from consilience.cli.consoles import emit, results
from consilience.cli.options import ColumnFile, JsonLines
from consilience.cli.progress import progress_bar
from consilience.cli.tables import new_table
from consilience.client.sync import DEFAULT_URL


def upload(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", exists=True, dir_okay=False, help="npy, npz, safetensors, json, parquet, arrow."
        ),
    ],
    *,
    server: Address = DEFAULT_URL,
    name: Annotated[str | None, typer.Option(help="The label; otherwise the file's name.")] = None,
    ids: ColumnFile = None,
    groups: ColumnFile = None,
    as_json: JsonLines = False,
) -> None:
    """Store embedding sets on a service and print their ids.

    --ids says which item each row is, --groups which rows belong together; several files share them.
    """
    its_ids, its_groups = read_optional(ids, "ids"), read_optional(groups, "groups")
    with connect(server) as client, progress_bar("uploading") as report:
        stored = []
        for done, file in enumerate(files):
            report(f"uploading {file.name}", done, len(files))
            stored.append(client.upload(file, name=name, ids=its_ids, groups=its_groups))
    if as_json:
        for embedding_set in stored:
            emit(embedding_set.model_dump_json())
        return
    table = new_table("id", "name", "items", "layers", left=("id", "name"))
    for embedding_set in stored:
        table.add_row(embedding_set.id, embedding_set.name, f"{embedding_set.n}", f"{len(embedding_set.layers)}")
    results().print(table)
