"""The service that a command talks to."""

from typing import Annotated

from typer import Option

from consilience.cli.options import SERVER_VARIABLE
from consilience.client.sync import Client

#: Seconds that a person at a terminal waits for a service that does not answer.
PATIENCE_S = 3.0

Address = Annotated[str, Option("--server", metavar="URL", envvar=SERVER_VARIABLE, help="The service.")]


def connect(url: str) -> Client:
    """A client of the service at this address."""
    return Client(url, patience_s=PATIENCE_S)
