"""`consilience keys`: make, list and revoke API keys, in the service's database and not through the service.

Whoever can write to the database may make keys; so the first key needs no other.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilience.cli.errors import packages_of
from consilience.cli.options import Json, JsonLines
from consilience.cli.output import emit, new_table, remarks, results
from consilience.cli.remote import DataDir, locate_stores
from consilience.contract.keys import ApiKey, parse_scopes

if TYPE_CHECKING:
    from consilience.stores.keys import KeyRecords

app = typer.Typer(help="API keys of a service, in its database.", no_args_is_help=True)

#: A hundred years: no date is out of the calendar.
DAYS_MAX = 36_500


@app.command("create")
def create_key(
    owner: Annotated[str, typer.Option(help="Whose sets and jobs the key opens: letters, digits and . _ - @")],
    scopes: Annotated[str, typer.Option(metavar="read,write,admin", help="What it may do.")] = "read,write",
    expires: Annotated[
        int | None, typer.Option(metavar="DAYS", min=1, max=DAYS_MAX, help="After so many days it no longer holds.")
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it: this is the only time that it can be read.

    From the first key on, the service answers to keys alone.
    """
    with _open_keys(data_dir) as keys:
        key = keys.create(owner, parse_scopes(scopes), expires)
    token = key.token.get_secret_value()
    emit(json.dumps({**key.model_dump(mode="json"), "token": token}) if as_json else token)
    until = f", until {key.expires_at:%Y-%m-%d}" if key.expires_at else ""
    remarks().print(f"{key.id} of {key.owner}: {', '.join(key.scopes)}{until}. It is not shown again.", soft_wrap=True)


@app.command("list")
def list_keys(data_dir: DataDir = None, as_json: JsonLines = False) -> None:
    """Every key that was ever made, without its secret."""
    with _open_keys(data_dir) as keys:
        known = keys.all()
    if as_json:
        for key in known:
            emit(key.model_dump_json())
        return
    table = new_table("id", "owner", "scopes", "made", "state", left=("id", "owner", "scopes", "state"))
    for key in known:
        table.add_row(key.id, key.owner, ",".join(key.scopes), f"{key.created_at:%Y-%m-%d}", key.state)
    results().print(table)


@app.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID", help="key_...")], data_dir: DataDir = None) -> None:
    """End a key at once. What it stored stays; another key of the same owner opens it."""
    with _open_keys(data_dir) as keys:
        _tell(keys.revoke(key_id))


def _tell(key: ApiKey) -> None:
    remarks().print(f"{key.id} of {key.owner} is {key.state}.", soft_wrap=True)


@contextmanager
def _open_keys(data_dir: Path | None) -> Iterator["KeyRecords"]:
    with packages_of("service", "The database of the keys", by_service=False):
        from consilience.stores.database import Database  # noqa: PLC0415 -- only this command needs them
        from consilience.stores.keys import KeyRecords  # noqa: PLC0415 -- the same

        _, url = locate_stores(data_dir)
    database = Database(url)
    try:
        database.migrate()
        yield KeyRecords(database)
    finally:
        database.close()
