"""Records of API keys: create, authenticate and revoke. Only the SHA-256 of a key is stored."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

from consilience.contract.keys import TOKEN, ApiKey, IssuedKey, Scope, check_owner
from consilience.errors import NotFound, Unauthenticated
from consilience.stores import tables
from consilience.stores.database import Database

_key = tables.api_keys
#: Digest to compare with if there is no such key, so that the comparison takes the same time.
_NO_DIGEST = "0" * 64


class KeyRecords:
    """Records of API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, owner: str, scopes: Sequence[Scope], expires_days: float | None = None) -> IssuedKey:
        """Create a key and return it with its token, which cannot be read again. Raise InvalidRequest for an invalid owner."""
        now = datetime.now(UTC)
        public, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        token = f"csl_{public}_{secret}"
        row = {
            "id": f"key_{public}",
            "owner": check_owner(owner),
            "scopes": [scope.value for scope in scopes],
            "created_at": now,
            "expires_at": None if expires_days is None else now + timedelta(days=expires_days),
        }
        with self._database.write() as connection:
            connection.execute(sa.insert(_key).values(**row, digest=_digest(token)))
        return IssuedKey.model_validate({**row, "token": token})

    def all(self) -> list[ApiKey]:
        """Return all keys that were ever created, oldest first."""
        with self._database.read() as connection:
            return [_to_key(row) for row in connection.execute(sa.select(_key).order_by(_key.c.created_at, _key.c.id))]

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key at once. A revoked key stays unchanged. Raise NotFound if there is none."""
        with self._database.write() as connection:
            active = sa.and_(_key.c.id == key_id, _key.c.revoked_at.is_(None))
            connection.execute(sa.update(_key).where(active).values(revoked_at=datetime.now(UTC)))
            row = connection.execute(sa.select(_key).where(_key.c.id == key_id)).first()
        if row is None:
            raise NotFound("There is no such key.", value=key_id, hint="Run `consilience keys list` to see all keys.")
        return _to_key(row)

    def exist(self) -> bool:
        """Return True if a key was ever created, even if it has been revoked."""
        with self._database.read() as connection:
            return connection.execute(sa.select(_key.c.id).limit(1)).first() is not None

    def authenticate(self, token: str) -> ApiKey:
        """Return the key of this token. Raise Unauthenticated, which never quotes the token, if the key is not valid."""
        match = TOKEN.fullmatch(token)
        row = self._find(f"key_{match[1]}") if match else None
        if not hmac.compare_digest(row.digest if row else _NO_DIGEST, _digest(token)) or row is None:
            raise Unauthenticated("The API key is unknown.", hint="Create a key with `consilience keys create`.")
        key = _to_key(row)
        # Only the holder of the secret learns why the key is no longer valid.
        if key.state != "active":
            raise Unauthenticated(
                f"The API key {key.id} is {key.state}.", hint="Create a new key, or ask the operator for one."
            )
        return key

    def _find(self, key_id: str) -> Row[Any] | None:
        with self._database.read() as connection:
            return connection.execute(sa.select(_key).where(_key.c.id == key_id)).first()


def _to_key(row: Row[Any]) -> ApiKey:
    return ApiKey.model_validate(row, from_attributes=True)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
