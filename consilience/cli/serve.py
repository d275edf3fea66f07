"""`consilience serve`: the whole service on this machine."""

import os
from typing import Annotated

import typer

from consilience.cli.remote import DataDir


def serve(
    host: Annotated[str, typer.Option(envvar="CONSILIENCE_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="CONSILIENCE_PORT", min=0, max=65535, help="Port to listen on; 0 chooses a free port.")
    ] = 8000,
    workers: Annotated[
        int, typer.Option(envvar="CONSILIENCE_WORKERS", min=1, help="Number of jobs that run at the same time.")
    ] = 1,
    data_dir: DataDir = None,
) -> None:
    """Run the whole service on this machine: API, workers and Redis, until Ctrl-C.

    If CONSILIENCE_REDIS_URL is set, the service uses that Redis instead of starting its own.
    """
    from consilience.standalone.serve import Instance, default_data_dir  # noqa: PLC0415 -- only this command needs it
    from consilience.standalone.serve import serve as run  # noqa: PLC0415 -- as above

    run(Instance(host, port, workers, data_dir or default_data_dir(os.environ)), typer.echo)
