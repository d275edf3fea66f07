"""Entry point of `python -m service`, the HTTP server."""

import sys

import structlog
import uvicorn

from consilience.errors import ConsilienceError, StartupError
from consilience.settings import PREFIX, is_loopback
from consilience.stores.database import Database
from consilience.stores.keys import KeyRecords
from service.app import create_app
from service.connections import Connection
from service.middleware.logs import configure_logging
from service.settings import ServiceSettings, read_settings
from service.tracing import start_tracing

#: Exit status of a start that failed because of the configuration.
EXIT_STARTUP_ERROR = 2


def main() -> None:
    """Read the settings and serve until SIGINT or SIGTERM."""
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        check_exposure(settings)
    except ConsilienceError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_STARTUP_ERROR)
    start_tracing()
    serve(settings)


def check_exposure(settings: ServiceSettings) -> None:
    """Refuse to listen on a public address without keys, unless the operator allows it.

    Raises
    ------
    StartupError
        The address is not a loopback address, there is no key, and no setting requires keys or allows requests without.
    """
    if is_loopback(settings.host) or settings.require_keys or _has_keys(settings):
        return
    if not settings.allow_unauthenticated:
        raise StartupError(
            f"{PREFIX}HOST={settings.host!r} is not a loopback address, and the service has no API keys.",
            value=settings.host,
            hint=f"Create a key with `consilience keys create`, set {PREFIX}REQUIRE_KEYS=true to create one later, "
            f"or set {PREFIX}ALLOW_UNAUTHENTICATED=true to let everyone who reaches the service use it.",
        )
    structlog.get_logger().warning(
        "no_authentication", host=settings.host, detail="Everyone who reaches this port can use the service."
    )


def _has_keys(settings: ServiceSettings) -> bool:
    database = Database(settings.database)
    try:
        database.migrate()
        return KeyRecords(database).exist()
    finally:
        database.close()


def serve(settings: ServiceSettings) -> None:
    """Run the server. The exit status is 2 if the port is in use, and 3 if the stores cannot be opened."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=Connection,
        # uvicorn passes the value to a timer, which accepts fractions.
        timeout_keep_alive=settings.connection_idle_limit_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.shutdown_limit_s,
    )
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        sys.exit(EXIT_STARTUP_ERROR)


if __name__ == "__main__":
    main()
