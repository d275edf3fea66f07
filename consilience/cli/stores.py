"""Where a service's stores are, for the commands that open them without the service."""

import os
from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="CONSILIENCE_DATA_DIR",
        file_okay=False,
        help="The service's data folder.",
        show_default="~/.local/share/consilience",
    ),
]


def locate_stores(data_dir: Path | None, database_url: str | None = None) -> tuple[Path, str]:
    """The data folder and the database's URL, of which the environment says what the command line does not."""
    from consilience.standalone.serve import default_data_dir  # noqa: PLC0415 -- not every command needs them
    from consilience.surroundings import Surroundings, read_environment  # noqa: PLC0415 -- the same

    folder = (data_dir or default_data_dir(os.environ)).expanduser().resolve()
    there = read_environment(Surroundings).model_copy(update={"data_dir": folder})
    return folder, database_url or there.database
