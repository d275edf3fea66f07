"""`consilience serve`."""

import os
from typing import Annotated

import typer

from consilience.cli.remote import DataDir


def serve(
    host: Annotated[str, typer.Option(envvar="CONSILIENCE_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="CONSILIENCE_PORT", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    workers: Annotated[
        int, typer.Option(envvar="CONSILIENCE_WORKERS", min=1, help="Jobs that run at the same time.")
    ] = 1,
    data_dir: DataDir = None,
) -> None:
    """Run the whole service on this machine: API, workers and Redis, until Ctrl-C.

    With CONSILIENCE_REDIS_URL set, that Redis is used and none is started.
    """
    from consilience.standalone.serve import Instance, default_data_dir  # noqa: PLC0415 -- only this command needs it
    from consilience.standalone.serve import serve as run  # noqa: PLC0415 -- the same

    run(Instance(host, port, workers, data_dir or default_data_dir(os.environ)), typer.echo)
