"""Dependencies of routes: the principal, the stores, and parameters that several routes share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Self, TypedDict, cast

from anyio import CapacityLimiter
from fastapi import Depends, Header, Path, Query, Request

from consilience.contract.base import DatasetId, EmbeddingId, JobId, MapId, Name, ReferenceId
from consilience.contract.keys import DEFAULT_OWNER, ApiKey, Scope
from consilience.errors import Forbidden, Unauthenticated
from consilience.stores.keys import KeyRecords
from consilience.stores.records import Access
from service.metrics import HttpMetrics
from service.settings import ServiceSettings
from service.stores import Stores

SCHEME = "bearer"
#: Methods that change no resource.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Paths that concern the whole service, not one owner.
ADMIN_PATHS = frozenset({"/metrics"})


@dataclass(frozen=True)
class Principal:
    """Sender of a request, identified by an API key. Without a key: anyone who reaches a service that has no keys."""

    key: ApiKey | None = None

    @property
    def owner(self) -> str:
        """Owner whose sets and jobs the request concerns."""
        return self.key.owner if self.key else DEFAULT_OWNER

    def check(self, scope: Scope) -> None:
        """Raise Forbidden if the principal does not have the scope."""
        if self.key and not self.key.allows(scope):
            has = ", ".join(self.key.scopes)
            raise Forbidden(
                f"This request needs an API key with the scope {scope.value}; the key has: {has}.",
                value=has,
                limit=scope.value,
                hint=f"Create one with `consilience keys create --owner {self.owner} --scopes {scope.value}`.",
            )

    def access(self, settings: ServiceSettings) -> Access:
        """Return the records that the principal can access and its limits. Limits of an owner need a key."""
        if self.key is None:
            return Access(sees_all=True, queue_limit=settings.queue_limit)
        return Access(
            owner=self.owner,
            sees_all=self.key.allows(Scope.ADMIN),
            queue_limit=settings.queue_limit,
            owner_queue_limit=settings.owner_queue_limit,
            owner_bytes_limit=settings.owner_bytes_limit,
        )


def authenticate(keys: KeyRecords, headers: Mapping[str, str], *, required: bool) -> Principal:
    """Find the principal by the header `Authorization: Bearer`.

    Raises
    ------
    Unauthenticated
        The key is not valid, or it is missing although the service has keys (or `required` is true). An invalid key is
        refused even if no key is needed, because its sender expects to be identified.
    """
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != SCHEME:
            raise Unauthenticated(
                f"The header `Authorization` uses the scheme {scheme[:32]!r}; the service accepts only bearer tokens.",
                hint="Send `Authorization: Bearer csl_...`.",
            )
        return Principal(keys.authenticate(token.strip()))
    if required or keys.exist():
        raise Unauthenticated(
            "The request has no API key, and this service requires one.",
            hint="Send `Authorization: Bearer csl_...`; the clients and the command line read CONSILIENCE_API_KEY.",
        )
    return Principal()


def required_scope(method: str, path: str) -> Scope:
    """Return the scope that a request needs."""
    if path in ADMIN_PATHS:
        return Scope.ADMIN
    return Scope.READ if method in SAFE_METHODS else Scope.WRITE


@dataclass(frozen=True)
class ServiceContext:
    """Objects that every request can use."""

    settings: ServiceSettings
    stores: Stores
    ingest_limiter: CapacityLimiter
    """Limit on the number of uploads that are parsed at the same time."""
    scrape_limiter: CapacityLimiter
    """Limit on the number of scrapes that read the stores at the same time."""
    http_metrics: HttpMetrics

    def restricted_to(self, principal: Principal) -> Self:
        """Return the same service, restricted to the records that the principal can access."""
        return replace(self, stores=self.stores.restricted_to(principal.access(self.settings)))


class LifespanState(TypedDict):
    """State that the application's lifespan gives to each request."""

    service: ServiceContext


def get_service(request: Request) -> ServiceContext:
    """Return the service of a request."""
    return cast("ServiceContext", request.state.service)


def get_settings(request: Request) -> ServiceSettings:
    """Return the settings."""
    return get_service(request).settings


def get_stores(request: Request) -> Stores:
    """Return the stores."""
    return get_service(request).stores


ServiceDep = Annotated[ServiceContext, Depends(get_service)]
SettingsDep = Annotated[ServiceSettings, Depends(get_settings)]
StoresDep = Annotated[Stores, Depends(get_stores)]

EmbeddingPath = Annotated[EmbeddingId, Path(description="Id of an embedding set.")]
DatasetPath = Annotated[DatasetId, Path(description="Id of a dataset.")]
MapPath = Annotated[MapId, Path(description="Id of a map.")]
ReferencePath = Annotated[ReferenceId, Path(description="Id of a reference set.")]
JobPath = Annotated[JobId, Path(description="Id of a job.")]
Cursor = Annotated[
    str | None,
    Query(max_length=256, pattern=r"^[\x21-\x7e]+$", description="Value of `next_cursor` of the previous page."),
]
PageLimit = Annotated[int, Query(ge=1, le=100, description="Maximum number of entries on the page.")]
NameQuery = Annotated[Name, Query(description="Label of the resource.")]
NameFilterQuery = Annotated[Name | None, Query(description="Return only entries with this name.")]
MetadataQuery = Annotated[
    str | None, Query(description="Your own JSON object, stored and returned unchanged; at most 8 KB.")
]
MetadataFilter = Annotated[
    str | None,
    Query(
        description='Return only sets whose metadata contains these members, given as a JSON object such as `{"run": 7}`.'
    ),
]
ViewsQuery = Annotated[
    str | None,
    Query(description='Views to read and the kind of each, given as a JSON object such as `{"caption": "text"}`.'),
]
Prefer = Annotated[
    list[str] | None,
    Header(
        description="`wait=20` delays the response until the job finishes, for at most 20 seconds.",
        examples=[["wait=20"]],
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Key that makes a repeated request safe. The same key with the same request returns the same resource; the "
        "same key with a different request is an error.",
    ),
]
IfNoneMatch = Annotated[
    str | None, Header(description="ETag of the last response. The response is 304 if the job has not changed since.")
]
DryRunQuery = Annotated[
    bool, Query(description="Return only the cost estimate. Nothing is stored and no job is created.")
]
