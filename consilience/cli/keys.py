"""`consilience keys`: create, list and revoke API keys, directly in the database of a service.

Everyone who can write to the database can create keys; so the first key needs no other key.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilience.cli.errors import require_extra
from consilience.cli.options import Json, JsonLines
from consilience.cli.output import new_table, standard_error, standard_output, write
from consilience.cli.remote import DataDir, locate_stores
from consilience.contract.keys import ApiKey, parse_scopes

if TYPE_CHECKING:
    from consilience.stores.keys import KeyRecords

app = typer.Typer(
    help="Create, list and revoke the API keys of a service, directly in its database.", no_args_is_help=True
)

#: Longest lifetime of a key: a hundred years, so that its end is a valid date.
DAYS_MAX = 36_500


@app.command("create")
def create_key(
    owner: Annotated[
        str, typer.Option(help="Owner of the sets and jobs that the key gives access to: letters, digits and . _ - @")
    ],
    scopes: Annotated[
        str, typer.Option(metavar="read,write,admin", help="Operations that the key allows.")
    ] = "read,write",
    expires: Annotated[
        int | None,
        typer.Option(
            metavar="DAYS", min=1, max=DAYS_MAX, help="Number of days until the key expires; by default it never does."
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Create a key and print it; the key cannot be shown again.

    Once a key exists, the service requires a key for every request.
    """
    with _open_keys(data_dir, create=True) as keys:
        key = keys.create(owner, parse_scopes(scopes), expires)
    token = key.token.get_secret_value()
    write(json.dumps({**key.model_dump(mode="json"), "token": token}) if as_json else token)
    until = f", until {key.expires_at:%Y-%m-%d}" if key.expires_at else ""
    standard_error().print(
        f"{key.id} of {key.owner}: {', '.join(key.scopes)}{until}. The key is not shown again.", soft_wrap=True
    )


@app.command("list")
def list_keys(data_dir: DataDir = None, as_json: JsonLines = False) -> None:
    """List all keys, also expired and revoked ones, without their secrets."""
    with _open_keys(data_dir) as keys:
        all_keys = keys.all()
    if as_json:
        for key in all_keys:
            write(key.model_dump_json())
        return
    table = new_table("id", "owner", "scopes", "created", "state", left=("id", "owner", "scopes", "state"))
    for key in all_keys:
        table.add_row(key.id, key.owner, ",".join(key.scopes), f"{key.created_at:%Y-%m-%d}", key.state)
    standard_output().print(table)


@app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, key_...")], data_dir: DataDir = None
) -> None:
    """Revoke a key at once; its owner's data is kept and stays accessible with another key of that owner."""
    with _open_keys(data_dir) as keys:
        _print_state(keys.revoke(key_id))


def _print_state(key: ApiKey) -> None:
    standard_error().print(f"{key.id} of {key.owner} is {key.state}.", soft_wrap=True)


@contextmanager
def _open_keys(data_dir: Path | None, *, create: bool = False) -> Iterator["KeyRecords"]:
    with require_extra("service", "The database of the keys", has_service=False):
        from consilience.stores.database import Database  # noqa: PLC0415 -- only this command needs them
        from consilience.stores.integrity import require_database_file  # noqa: PLC0415 -- as above
        from consilience.stores.keys import KeyRecords  # noqa: PLC0415 -- as above

        _, url = locate_stores(data_dir)
    if not create:
        require_database_file(url, hint="Pass the data folder of the service with --data-dir.")
    database = Database(url)
    try:
        database.migrate()
        yield KeyRecords(database)
    finally:
        database.close()
