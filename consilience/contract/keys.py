"""API keys, their owners and their scopes."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, SecretStr

from consilience.contract.base import Document, Timestamp
from consilience.errors import InvalidRequest

#: Owner of all resources of a service without keys.
DEFAULT_OWNER = "default"
#: Token of a key: the public id by which it is found, then 256 random bits.
TOKEN = re.compile(r"csl_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")

#: Name of an owner: short and safe in logs and tables.
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
Owner = Annotated[str, Field(pattern=f"^{OWNER.pattern}$", examples=["vision-team"])]
KeyId = Annotated[str, Field(pattern=r"^key_[0-9a-f]{16}$", examples=["key_0123456789abcdef"])]


class Scope(StrEnum):
    """Permission of a key."""

    READ = "read"
    """Read the sets and jobs of its owner."""
    WRITE = "write"
    """Upload, create jobs, cancel and delete."""
    ADMIN = "admin"
    """Read and write the sets and jobs of all owners, and read metrics of the whole service."""


def parse_scopes(words: str) -> tuple[Scope, ...]:
    """Parse scopes such as `read,write`; InvalidRequest lists the allowed ones."""
    allowed = [scope.value for scope in Scope]
    names = dict.fromkeys(word.strip() for word in words.split(","))
    for name in names:
        if name not in allowed:
            raise InvalidRequest(f"There is no scope {name!r}; allowed: {', '.join(allowed)}.", limit=allowed)
    return tuple(Scope(name) for name in names)


def check_owner(owner: str) -> str:
    """Validate the name of an owner and return it. Raises InvalidRequest."""
    if not OWNER.fullmatch(owner):
        raise InvalidRequest(
            f"The owner name {owner!r} is not valid.",
            value=owner,
            hint="Use 1 to 64 letters, digits and the characters . _ - @, beginning with a letter or digit.",
        )
    return owner


class ApiKey(Document):
    """API key without its token."""

    id: KeyId
    owner: Owner
    scopes: tuple[Scope, ...]
    created_at: Timestamp
    expires_at: Timestamp | None = None
    revoked_at: Timestamp | None = None

    @property
    def state(self) -> str:
        """State of the key: `active`, `expired` or `revoked`."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= datetime.now(UTC) else "active"

    def allows(self, scope: Scope) -> bool:
        """Return whether the key has a scope; `admin` includes all others."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class IssuedKey(ApiKey):
    """New API key with its token, which cannot be read later."""

    token: SecretStr
