"""Entry point of `python -m service.deliveries`, which sends webhooks and collects garbage."""

import signal
import sys
import threading
from datetime import timedelta

import structlog

from consilience.errors import ConsilienceError
from consilience.settings import read_environment
from consilience.stores.blobs import BlobStore
from consilience.stores.database import Database
from consilience.stores.retention import Retention
from consilience.stores.webhooks import Outbox
from service.deliveries.collector import Collector
from service.deliveries.sender import DeliveryTiming, Sender
from service.middleware.logs import configure_logging
from service.settings import DeliverySettings

#: Exit statuses: a setting is not valid; the stores cannot be opened.
EXIT_STARTUP_ERROR, EXIT_STORE_ERROR = 2, 3
#: Seconds to wait for the service to migrate the database.
SCHEMA_TIMEOUT_S = 60.0


def main() -> int:
    """Read the settings and run until SIGINT or SIGTERM."""
    try:
        settings = read_environment(DeliverySettings)
    except ConsilienceError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_STARTUP_ERROR
    configure_logging(settings.log_level)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        database = Database(settings.database)
        database.wait_for_schema(SCHEMA_TIMEOUT_S)
        work(settings, database, BlobStore(settings.data_dir), stopping)
    except ConsilienceError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_STORE_ERROR
    return 0


def work(settings: DeliverySettings, database: Database, blobs: BlobStore, stopping: threading.Event) -> None:
    """Run the collector in a thread and the sender in this one, until `stopping` is set."""
    structlog.get_logger().info("deliveries_ready", webhooks=bool(settings.webhook_keys))
    days = settings.job_retention_days
    collector = Collector(Retention(database), blobs, settings.data_dir, timedelta(days=days) if days else None)
    # A daemon thread: the next start removes the rest.
    threading.Thread(target=collector.run, args=(stopping, settings.collect_interval_s), daemon=True).start()
    if settings.webhook_keys:
        timing = DeliveryTiming(timeout_s=settings.webhook_timeout_s)
        Sender(Outbox(database), settings.webhook_keys, settings.destinations, timing).run(stopping)
    else:
        stopping.wait()
    database.close()


if __name__ == "__main__":
    sys.exit(main())
