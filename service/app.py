"""Factory of the ASGI application, which assembles routes, middleware and stores."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.concurrency import contextmanager_in_threadpool

from consilience import __version__
from service import problems
from service.deps import LifespanState, ServiceContext
from service.metrics import HttpMetrics
from service.middleware.auth import AuthenticationMiddleware
from service.middleware.headers import SecurityHeadersMiddleware
from service.middleware.logs import RequestLogMiddleware
from service.openapi.docs_page import add_pages
from service.openapi.schema import TAGS, extend_openapi
from service.routes import alignments, datasets, embeddings, health, info, jobs, maps, references, studies, upgrades
from service.settings import ServiceSettings
from service.stores import Stores, open_stores
from service.tracing import TELEMETRY

#: In the order of the OpenAPI document.
ROUTERS = (
    embeddings,
    datasets,
    references,
    alignments,
    studies,
    maps,
    upgrades,
    jobs,
    info,
    health,
)
#: Maximum number of scrapes that read the stores at the same time.
CONCURRENT_SCRAPES = 2
DESCRIPTION = """Measures how far embedding spaces agree.

Upload embedding sets, request an alignment, poll the job and read the scores.
Every error is a problem document (RFC 9457)."""


def create_app(settings: ServiceSettings, stores: Stores | None = None) -> FastAPI:
    """Create the service as an ASGI application.

    Parameters
    ----------
    settings : Settings
        Settings of the operator.
    stores : Stores, optional
        Stores that the caller opened and will close. By default, the application opens the stores of the settings when it
        starts and closes them when it stops.

    Raises
    ------
    StartupError, Unavailable
        The stores cannot be opened; raised when the application starts.
    """
    http_metrics = HttpMetrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[LifespanState]:
        opening = nullcontext(stores) if stores else open_stores(settings)
        async with contextmanager_in_threadpool(opening) as opened:
            limiters = CapacityLimiter(settings.concurrent_ingests), CapacityLimiter(CONCURRENT_SCRAPES)
            yield {"service": ServiceContext(settings, opened, *limiters, http_metrics)}

    app = FastAPI(
        title="Consilience",
        version=__version__,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # service.openapi.docs_page serves a page that loads files from this service only
        redoc_url=None,
        telemetry=TELEMETRY,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.add_middleware(AuthenticationMiddleware, settings=settings)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(RequestLogMiddleware, http_metrics=http_metrics)
    problems.install(app)
    for room in ROUTERS:
        app.include_router(room.router)
    extend_openapi(app)
    add_pages(app)
    return app
