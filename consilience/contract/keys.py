"""API keys: who asks, and what they may do."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, SecretStr

from consilience.contract.base import Document, Timestamp
from consilience.errors import InvalidRequest

#: Whose everything is where there are no keys.
DEFAULT_OWNER = "default"
#: A key as its holder knows it: the public id by which it is looked up, then 256 random bits.
TOKEN = re.compile(r"csl_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")

#: A short word that is safe in logs and tables.
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
Owner = Annotated[str, Field(pattern=f"^{OWNER.pattern}$", examples=["vision-team"])]
KeyId = Annotated[str, Field(pattern=r"^key_[0-9a-f]{16}$", examples=["key_0123456789abcdef"])]


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    """Look at its owner's sets and jobs."""
    WRITE = "write"
    """Upload, ask, cancel and delete."""
    ADMIN = "admin"
    """Both, for the sets and jobs of every owner, and read what concerns the whole service."""


def parse_scopes(words: str) -> tuple[Scope, ...]:
    """`read,write` as scopes; InvalidRequest names what is none."""
    allowed = [scope.value for scope in Scope]
    names = dict.fromkeys(word.strip() for word in words.split(","))
    for name in names:
        if name not in allowed:
            raise InvalidRequest(f"There is no scope {name!r}; there are {', '.join(allowed)}.", limit=allowed)
    return tuple(Scope(name) for name in names)


def check_owner(owner: str) -> str:
    """The owner's name; InvalidRequest where it cannot be one."""
    if not OWNER.fullmatch(owner):
        raise InvalidRequest(
            "An owner's name is 1 to 64 letters, digits and . _ - @, and begins with a letter or digit.", value=owner
        )
    return owner


class ApiKey(Document):
    """A key without its secret, which only its holder has."""

    id: KeyId
    owner: Owner
    scopes: tuple[Scope, ...]
    created_at: Timestamp
    expires_at: Timestamp | None = None
    revoked_at: Timestamp | None = None

    @property
    def state(self) -> str:
        """Whether it holds, as one word."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= datetime.now(UTC) else "active"

    def allows(self, scope: Scope) -> bool:
        """Whether the key may do this."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class IssuedKey(ApiKey):
    """A key when it is made: the one time that its token can be read."""

    token: SecretStr
