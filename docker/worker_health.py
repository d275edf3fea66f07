"""Whether this container's worker can reach what it works with: the exit status is 0 where the database and Redis answer."""

import sys

from consilience.errors import ConsilienceError
from consilience.stores.database import Database
from consilience.stores.queue import JobQueue
from workers.settings import read_settings


def main() -> None:
    """Ask both once."""
    try:
        settings = read_settings()
        Database(settings.database).ping()
        JobQueue(settings.redis_url.get_secret_value()).ping()
    except ConsilienceError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
