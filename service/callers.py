"""Who asks: the API key of a request, and what it may do."""

from collections.abc import Mapping
from dataclasses import dataclass

from consilience.contract.keys import DEFAULT_OWNER, ApiKey, Scope
from consilience.errors import Forbidden, Unauthenticated
from consilience.stores.access import Access
from consilience.stores.keys import KeyRecords
from service.settings import Settings

SCHEME = "bearer"
#: Methods that change nothing.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: What concerns the whole service and not one owner.
ADMIN_PATHS = frozenset({"/metrics"})


@dataclass(frozen=True)
class Caller:
    """Who asks; without a key, whoever reaches a service that has no keys."""

    key: ApiKey | None = None

    @property
    def owner(self) -> str:
        """Whose sets and jobs the request is about."""
        return self.key.owner if self.key else DEFAULT_OWNER

    def check(self, scope: Scope) -> None:
        """Raise Forbidden where the caller may not do this."""
        if self.key and not self.key.allows(scope):
            has = ", ".join(self.key.scopes)
            raise Forbidden(
                f"This needs an API key with the scope {scope.value}; this one has: {has}.",
                value=has,
                limit=scope.value,
                hint=f"`consilience keys create --owner {self.owner} --scopes {scope.value}` makes one.",
            )

    def access(self, settings: Settings) -> Access:
        """What its statements are held to. Limits of an owner are for those who can be told apart: by their keys."""
        if self.key is None:
            return Access(sees_all=True, queue_limit=settings.queue_limit)
        return Access(
            owner=self.owner,
            sees_all=self.key.allows(Scope.ADMIN),
            queue_limit=settings.queue_limit,
            owner_queue_limit=settings.owner_queue_limit,
            owner_bytes_limit=settings.owner_bytes_limit,
        )


def identify(keys: KeyRecords, headers: Mapping[str, str], *, required: bool) -> Caller:
    """The caller by its `Authorization: Bearer` header.

    Raises
    ------
    Unauthenticated
        The key does not hold, or there is none although the service has keys (or `required`). A wrong key is refused
        also where none is needed: whoever sends one believes to be known.
    """
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != SCHEME:
            raise Unauthenticated("Only bearer tokens are read here.", hint="Send `Authorization: Bearer csl_...`.")
        return Caller(keys.authenticate(token.strip()))
    if required or keys.exist():
        raise Unauthenticated(
            "This service answers only to API keys.",
            hint="Send `Authorization: Bearer csl_...`; the clients and the command line read CONSILIENCE_API_KEY.",
        )
    return Caller()


def scope_of(method: str, path: str) -> Scope:
    """What a request needs."""
    if path in ADMIN_PATHS:
        return Scope.ADMIN
    return Scope.READ if method in SAFE_METHODS else Scope.WRITE
