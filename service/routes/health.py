"""Routes of health checks and metrics."""

from collections.abc import Callable
from typing import Literal

from anyio import move_on_after, to_thread
from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from consilience.contract.base import Document
from consilience.errors import ConsilienceError, Unavailable
from service.deps import ServiceDep, StoresDep
from service.metrics import collect_store_metrics, missing_store_metrics
from service.problems import error_responses

router = APIRouter(tags=["health"])


class Liveness(Document):
    """Confirmation that the process is alive."""

    status: Literal["alive"] = "alive"


class Readiness(Document):
    """Confirmation that the service can handle requests."""

    status: Literal["ready"] = "ready"
    checks: dict[str, Literal["ok"]]
    """Result of the check of each store, by store name."""


@router.get(
    "/livez",
    operation_id="get_liveness",
    summary="Check that the process is alive",
    response_description="The process is alive.",
)
async def get_liveness() -> Liveness:
    """Return 200 if the process is alive. No store is checked."""
    return Liveness()


@router.get(
    "/healthz",
    operation_id="get_health",
    summary="Check that the service is ready (alias of /readyz)",
    response_description="The service is ready.",
    responses=error_responses(Unavailable),
)
@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Check that the service is ready",
    response_description="The service is ready.",
    responses=error_responses(Unavailable),
)
def get_readiness(stores: StoresDep) -> Readiness:
    """Return 200 if the database, the blob store and Redis respond. Otherwise the error lists those that do not.

    Without Redis, sets and jobs can still be read and jobs are still accepted. These jobs start when Redis is back.
    """
    checks = {"database": stores.database.ping, "blobs": stores.blobs.check, "redis": stores.queue.ping}
    broken = [(name, fault) for name, ping in checks.items() if (fault := _find_fault(ping))]
    if broken:
        raise Unavailable(
            f"The service is not ready: {', '.join(name for name, _ in broken)} failed.",
            value="; ".join(f"{name}: {fault}" for name, fault in broken),
            hint="Retry later; `value` has the error of each store.",
        )
    return Readiness(checks=dict.fromkeys(checks, "ok"))


def _find_fault(ping: Callable[[], object]) -> str | None:
    try:
        ping()
    except ConsilienceError as error:
        return error.detail
    return None


#: Seconds to wait for the stores; the default timeout of Prometheus is ten seconds.
SCRAPE_TIMEOUT_S = 5.0


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Get Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Metrics in the Prometheus text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    },
)
async def get_metrics(service: ServiceDep) -> Response:
    """Return metrics of this process and of the whole service: jobs, queue, workers, sets, webhooks and graphs.

    If the database or Redis is unavailable, their metrics are missing and `consilience_store_up` is 0. This operation needs
    the scope `admin`.
    """
    figures = missing_store_metrics()
    with move_on_after(SCRAPE_TIMEOUT_S):
        # An abandoned read still counts against the limit, so that reads that hang do not accumulate.
        figures = await to_thread.run_sync(
            collect_store_metrics, service.stores, abandon_on_cancel=True, limiter=service.scrape_limiter
        )
    text = await run_in_threadpool(lambda: generate_latest(service.http_metrics.registry) + generate_latest(figures))
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
