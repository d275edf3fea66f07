"""`consilience reference`: add, list, show and delete reference sets."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType

from consilience.cli.options import Json, Limit, NameFilter
from consilience.cli.output import fact_table, new_table, print_document, standard_error
from consilience.cli.remote import ServerUrl, connect
from consilience.cli.score import check_source
from consilience.client.transport import DEFAULT_URL
from consilience.contract.references import ReferencePage, ReferenceSet

app = typer.Typer(
    help="Manage the reference sets of a service: models that new models are compared with.", no_args_is_help=True
)

ReferenceName = Annotated[
    str,
    typer.Argument(
        metavar="NAME|ID", help="Name of the reference set, which stands for its newest version, or its id, ref_..."
    ),
]


@app.command("add")
def add_reference(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of the reference set; if one has this name already, the new one is its next version.",
        ),
    ],
    members: Annotated[
        list[str],
        typer.Argument(
            metavar="SET...", help="Embeddings of the same items by several models: files or ids of stored sets."
        ),
    ],
    *,
    server: ServerUrl = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Create a reference set; its members cannot be deleted before the reference set."""
    for member in members:
        check_source(member, server)
    with connect(server) as client:
        stored = client.add_reference(name, members)
    print_document(stored, _card, as_json=as_json)


@app.command("list")
def list_references(
    server: ServerUrl = DEFAULT_URL,
    name: NameFilter = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """List the newest reference sets."""
    with connect(server) as client:
        page = client.references(name=name, limit=limit)
    print_document(page, _list, as_json=as_json)


@app.command("show")
def show_reference(reference: ReferenceName, server: ServerUrl = DEFAULT_URL, as_json: Json = False) -> None:
    """Show a reference set and its members."""
    with connect(server) as client:
        print_document(client.reference(reference), _card, as_json=as_json)


@app.command("delete")
def delete_reference(reference: ReferenceName, server: ServerUrl = DEFAULT_URL) -> None:
    """Delete a reference set, unless an unfinished job needs it. Its members are kept."""
    with connect(server) as client:
        stored = client.reference(reference)
        client.delete_reference(stored.id)
    standard_error().print(f"Deleted {stored.name} ({stored.id}).", soft_wrap=True)


def _list(page: ReferencePage) -> RenderableType:
    table = new_table("id", "name", "items", "members", left=("id", "name"))
    for each in page.data:
        table.add_row(each.id, each.name, f"{each.n}", f"{len(each.members)}")
    return table


def _card(stored: ReferenceSet) -> RenderableType:
    facts = {"id": stored.id, "name": stored.name, "items": f"{stored.n}", "version": stored.digest[:12]}
    table = new_table("member", "name", "layers", left=("member", "name"))
    for member in stored.members:
        table.add_row(member.embedding, member.name, f"{member.layers}")
    return Group(fact_table(facts), table)
