"""API keys: who asks, and what they may do."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field, SecretStr

from consilience.contract.base import Document, Timestamp

#: Whose everything is where there are no keys.
DEFAULT_OWNER = "default"
#: A key as its holder knows it: the public id by which it is looked up, then 256 random bits.
TOKEN = re.compile(r"csl_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")

Owner = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$", examples=["vision-team"])]
KeyId = Annotated[str, Field(pattern=r"^key_[0-9a-f]{16}$", examples=["key_0123456789abcdef"])]


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    """Look at its owner's sets and jobs."""
    WRITE = "write"
    """Upload, ask, cancel and delete."""
    ADMIN = "admin"
    """Both, for the sets and jobs of every owner, and read what concerns the whole service."""


class ApiKey(Document):
    """A key without its secret, which only its holder has."""

    id: KeyId
    owner: Owner
    scopes: tuple[Scope, ...]
    created_at: Timestamp
    expires_at: Timestamp | None = None
    revoked_at: Timestamp | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the key may do this."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class IssuedKey(ApiKey):
    """A key when it is made: the one time that its token can be read."""

    token: SecretStr
