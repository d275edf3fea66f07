"""Whether the process is alive, and whether it can do its work."""

from collections.abc import Callable
from typing import Literal

import structlog
from fastapi import APIRouter

from consilience.contract.base import Document
from consilience.errors import ConsilienceError, Unavailable
from service.deps import StoresDep
from service.problems import describe

router = APIRouter(tags=["health"])


class Liveness(Document):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(Document):
    """Whether requests can be served."""

    status: Literal["ready", "degraded"]
    """`degraded`: jobs are accepted, but Redis does not answer, so they start only when it is back."""
    checks: dict[str, str]
    """`ok` or what is wrong, for each store."""


@router.get("/livez", operation_id="get_liveness")
async def get_liveness() -> Liveness:
    """The process is alive; nothing else is asked."""
    return Liveness()


@router.get("/healthz", operation_id="get_health", responses=describe(Unavailable))
@router.get("/readyz", operation_id="get_readiness", responses=describe(Unavailable))
def get_readiness(stores: StoresDep) -> Readiness:
    """The database and the blob store answer; Redis is reported, but is no condition."""
    checks = {
        "database": _check(stores.database.ping),
        "blobs": _check(stores.blobs.check),
        "redis": _check(stores.queue.ping),
    }
    broken = [f"{name}: {found}" for name, found in checks.items() if name != "redis" and found != "ok"]
    if broken:
        raise Unavailable("The service is not ready.", value="; ".join(broken))
    return Readiness(status="ready" if checks["redis"] == "ok" else "degraded", checks=checks)


def _check(ping: Callable[[], object]) -> str:
    try:
        ping()
    except ConsilienceError as error:
        structlog.get_logger().warning("check_failed", detail=error.detail)
        return error.detail
    return "ok"
