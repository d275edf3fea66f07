"""`consilience reference`: add, list, show, delete."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType

from consilience.cli.options import Json, Limit, OnlyName
from consilience.cli.output import fact_table, new_table, present, remarks
from consilience.cli.remote import Address, connect
from consilience.cli.score import require_source
from consilience.client.transport import DEFAULT_URL
from consilience.contract.references import ReferencePage, ReferenceSet

app = typer.Typer(help="The reference sets of a service: what new models are scored against.", no_args_is_help=True)

Words = Annotated[str, typer.Argument(metavar="NAME|ID", help="The newest of a name, or ref_...")]


@app.command("add")
def add_reference(
    name: Annotated[str, typer.Argument(help="What it is called; another one of the name is its next version.")],
    members: Annotated[
        list[str], typer.Argument(metavar="SET...", help="Files, or ids of stored sets: embeddings of the same items.")
    ],
    *,
    server: Address = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Make a reference set. Its members cannot be deleted before it is."""
    for member in members:
        require_source(member, server)
    with connect(server) as client:
        stored = client.add_reference(name, members)
    present(stored, _card, as_json=as_json)


@app.command("list")
def list_references(
    server: Address = DEFAULT_URL,
    name: OnlyName = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """The newest reference sets."""
    with connect(server) as client:
        page = client.references(name=name, limit=limit)
    present(page, _list, as_json=as_json)


@app.command("show")
def show_reference(words: Words, server: Address = DEFAULT_URL, as_json: Json = False) -> None:
    """One reference set and its members."""
    with connect(server) as client:
        present(client.reference(words), _card, as_json=as_json)


@app.command("delete")
def delete_reference(words: Words, server: Address = DEFAULT_URL) -> None:
    """Forget a reference set; not while an unfinished job needs it. Its members stay."""
    with connect(server) as client:
        found = client.reference(words)
        client.delete_reference(found.id)
    remarks().print(f"{found.name} ({found.id}) is deleted.", soft_wrap=True)


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
