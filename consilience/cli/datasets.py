"""`consilience datasets`: add, list, show and delete datasets; and `consilience upload FILE...`: store embedding sets."""

from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Group, RenderableType

from consilience.cli.options import FOR_GROUPS, Json, JsonLines, Limit, NameFilter, label_file_option
from consilience.cli.output import (
    dataset_table,
    fact_table,
    new_table,
    print_document,
    standard_error,
    standard_output,
    view_table,
    write,
)
from consilience.cli.parsing import read_optional_column
from consilience.cli.remote import ServerUrl, connect, progress_bar
from consilience.client.transport import DEFAULT_URL
from consilience.contract.datasets import Dataset, ViewKind
from consilience.errors import InvalidRequest

app = typer.Typer(help="Manage the datasets of a service: items to embed.", no_args_is_help=True)

DatasetId = Annotated[str, typer.Argument(metavar="ID", help="Id of the dataset, ds_...")]
KINDS: tuple[ViewKind, ...] = get_args(ViewKind)


@app.command("add")
def add_dataset(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|NAME",
            help="File of items (jsonl, parquet, zip or tar), or a built-in dataset such as stdlib-docs or scenes:n=64,seed=7.",
        ),
    ],
    *,
    server: ServerUrl = DEFAULT_URL,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; by default the name of the file.")] = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=text|code|image,...",
            help="Views to read with their kinds; by default those that the file declares.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store a file of items as a dataset, or have the service create a built-in dataset."""
    path, chosen = Path(source), parse_views(views)
    with connect(server) as client:
        if path.is_file():
            stored = client.add_dataset(path, name=name, views=chosen)
        elif path.exists():
            raise InvalidRequest(
                f"{source} is not a regular file.", value=source, hint="Pack a folder as a zip or a tar file."
            )
        elif path.suffix or chosen:
            raise InvalidRequest(f"The file {source} does not exist.", value=source, hint="Check the path.")
        else:
            stored = client.make_dataset(source, name=name)
    print_document(stored, _card, as_json=as_json)


@app.command("list")
def list_datasets(
    server: ServerUrl = DEFAULT_URL,
    name: NameFilter = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List the newest datasets."""
    with connect(server) as client:
        page = client.datasets(name=name, limit=limit)
    print_document(page, lambda page: dataset_table(page.data), as_json=as_json)


@app.command("show")
def show_dataset(dataset_id: DatasetId, server: ServerUrl = DEFAULT_URL, as_json: Json = False) -> None:
    """Show a dataset and its views."""
    with connect(server) as client:
        print_document(client.dataset(dataset_id), _card, as_json=as_json)


@app.command("delete")
def delete_dataset(dataset_id: DatasetId, server: ServerUrl = DEFAULT_URL) -> None:
    """Delete a dataset, unless an unfinished job needs it."""
    with connect(server) as client:
        client.delete_dataset(dataset_id)
    standard_error().print(f"Deleted {dataset_id}.", soft_wrap=True)


def parse_views(words: str | None) -> dict[str, ViewKind] | None:
    """Parse --views, such as `caption=text,photo=image`; InvalidRequest if a view has no name or an unknown kind."""
    if words is None:
        return None
    views: dict[str, ViewKind] = {}
    for word in words.split(","):
        name, _, kind = word.partition("=")
        if not name or kind not in KINDS:
            raise InvalidRequest(
                f"--views needs NAME=KIND, for example caption=text; got {word!r}.",
                value=word,
                hint=f"The kinds are {', '.join(KINDS)}.",
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
            metavar="FILE...",
            exists=True,
            dir_okay=False,
            help="Embedding sets to store: npy, npz, safetensors, json, parquet or arrow files.",
        ),
    ],
    *,
    server: ServerUrl = DEFAULT_URL,
    name: Annotated[str | None, typer.Option(help="Name of the sets; by default the name of each file.")] = None,
    ids: Annotated[Path | None, label_file_option("Item ids")] = None,
    groups: Annotated[Path | None, label_file_option("Group labels of the items", note=FOR_GROUPS)] = None,
    as_json: JsonLines = False,
) -> None:
    """Store embedding sets on a service and print their ids.

    The ids and groups of --ids and --groups apply to each of the files.
    """
    item_ids, item_groups = read_optional_column(ids, "ids"), read_optional_column(groups, "groups")
    with connect(server) as client, progress_bar("uploading") as report:
        stored = []
        for done, file in enumerate(files):
            report(f"uploading {file.name}", done, len(files))
            stored.append(client.upload(file, name=name, ids=item_ids, groups=item_groups))
    if as_json:
        for embedding_set in stored:
            write(embedding_set.model_dump_json())
        return
    table = new_table("id", "name", "items", "layers", left=("id", "name"))
    for embedding_set in stored:
        table.add_row(embedding_set.id, embedding_set.name, f"{embedding_set.n}", f"{len(embedding_set.layers)}")
    standard_output().print(table)
