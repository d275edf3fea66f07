"""`python -m service`: the HTTP server."""

import sys

import structlog
import uvicorn

from consilience.errors import ConsilienceError
from consilience.surroundings import is_loopback
from service.app import create_app
from service.connections import Connection
from service.logs import configure_logging
from service.settings import Settings, read_settings

#: The exit status of a start that failed for a reason that the operator can mend.
BAD_START = 2


def main() -> None:
    """Read the settings and serve until SIGINT or SIGTERM."""
    try:
        settings = read_settings()
    except ConsilienceError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(BAD_START)
    configure_logging(settings.log_level)
    log = structlog.get_logger()
    if not is_loopback(settings.host):
        log.warning("no_authentication", host=settings.host, detail="Whoever reaches this port can use the service.")
    serve(settings)


def serve(settings: Settings) -> None:
    """Run the server; a port that is taken and stores that cannot be opened end it with status 2 or 3."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=Connection,
        # uvicorn hands it to a timer, which takes fractions too.
        timeout_keep_alive=settings.connection_idle_limit_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.shutdown_limit_s,
    )
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        sys.exit(BAD_START)


if __name__ == "__main__":
    main()
