"""Helpers for services with API keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from consilience.contract.keys import Scope
from consilience.stores.database import Database
from consilience.stores.keys import KeyRecords

BOTH = (Scope.READ, Scope.WRITE)


@contextmanager
def opened_keys(folder: Path) -> Iterator[KeyRecords]:
    """Open the keys in the database of a service's folder."""
    database = Database(f"sqlite:///{folder / 'consilience.db'}")
    database.migrate()
    yield KeyRecords(database)
    database.close()


def make_key(folder: Path, owner: str, *scopes: Scope) -> str:
    """Create a key, by default with the scopes read and write, and return its token."""
    folder.mkdir(exist_ok=True)
    with opened_keys(folder) as keys:
        return keys.create(owner, scopes or BOTH).token.get_secret_value()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def client_of(url: str, token: str) -> httpx2.Client:
    """Return a client that sends the key."""
    return httpx2.Client(base_url=url, headers=bearer(token), timeout=30)
