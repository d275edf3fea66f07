"""`consilience datasets`: add, list, show, delete."""

from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Group, RenderableType

from consilience.cli.options import ColumnFile, Json, JsonLines, Limit, OnlyName
from consilience.cli.output import dataset_table, emit, fact_table, new_table, present, remarks, results, view_table
from consilience.cli.parsing import read_optional
from consilience.cli.remote import Address, connect, progress_bar
from consilience.client.transport import DEFAULT_URL
from consilience.contract.datasets import Dataset, ViewKind
from consilience.errors import InvalidRequest

app = typer.Typer(help="The datasets of a service: items to embed.", no_args_is_help=True)

DatasetId = Annotated[str, typer.Argument(metavar="ID", help="ds_...")]
KINDS: tuple[ViewKind, ...] = get_args(ViewKind)


@app.command("add")
def add_dataset(
    source: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="jsonl, parquet, zip, tar; or stdlib-docs, scenes:n=64,seed=7.")
    ],
    *,
    server: Address = DEFAULT_URL,
    name: Annotated[str | None, typer.Option(help="The label; otherwise the file's name.")] = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=text|code|image,...", help="The views to read; otherwise the file's own words decide."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store a file of items, or have the service make one of its own datasets."""
    path, chosen = Path(source), parse_views(views)
    with connect(server) as client:
        if path.is_file():
            stored = client.add_dataset(path, name=name, views=chosen)
        elif path.exists():
            raise InvalidRequest(f"{source} is no file.", value=source, hint="Pack a folder as a zip or a tar.")
        elif path.suffix or chosen:
            raise InvalidRequest(f"There is no file {source}.", value=source, hint="Check the path.")
        else:
            stored = client.make_dataset(source, name=name)
    present(stored, _card, as_json=as_json)


@app.command("list")
def list_datasets(
    server: Address = DEFAULT_URL,
    name: OnlyName = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """The newest datasets."""
    with connect(server) as client:
        page = client.datasets(name=name, limit=limit)
    present(page, lambda page: dataset_table(page.data), as_json=as_json)


@app.command("show")
def show_dataset(dataset_id: DatasetId, server: Address = DEFAULT_URL, as_json: Json = False) -> None:
    """One dataset and its views."""
    with connect(server) as client:
        present(client.dataset(dataset_id), _card, as_json=as_json)


@app.command("delete")
def delete_dataset(dataset_id: DatasetId, server: Address = DEFAULT_URL) -> None:
    """Forget a dataset; not while an unfinished job needs it."""
    with connect(server) as client:
        client.delete_dataset(dataset_id)
    remarks().print(f"{dataset_id} is gone.", soft_wrap=True)


def parse_views(words: str | None) -> dict[str, ViewKind] | None:
    """`caption=text,photo=image` as names with kinds. Raises InvalidRequest."""
    if words is None:
        return None
    views: dict[str, ViewKind] = {}
    for word in words.split(","):
        name, _, kind = word.partition("=")
        if not name or kind not in KINDS:
            raise InvalidRequest(
                f"{word!r} names no view.", value=word, hint=f"Write NAME=KIND; the kinds are {', '.join(KINDS)}."
            )
        views[name] = kind
    return views


def _card(dataset: Dataset) -> RenderableType:
    facts = {"id": dataset.id, "name": dataset.name, "items": f"{dataset.n}", "digest": dataset.digest}
    return Group(fact_table(facts), view_table(dataset))


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
