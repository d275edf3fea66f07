"""Runs Alembic on a connection that is already in a transaction and under the lock."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from consilience.errors import StartupError


def make_config() -> Config:
    """Alembic's configuration: this folder, wherever it is installed."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(connection: Connection) -> None:
    """Apply every migration that is missing; StartupError where the database is newer than this code."""
    config = make_config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StartupError(
            f"The database cannot be migrated: {error}.",
            hint="It was made by a newer version of Consilience; start that version.",
        ) from error
