"""Whether the process is alive, and whether it can do its work."""

from collections.abc import Callable
from typing import Literal

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

    status: Literal["ready"] = "ready"
    checks: dict[str, Literal["ok"]]
    """Each store by its name."""


@router.get("/livez", operation_id="get_liveness")
async def get_liveness() -> Liveness:
    """The process is alive; nothing else is asked."""
    return Liveness()


@router.get("/healthz", operation_id="get_health", responses=describe(Unavailable))
@router.get("/readyz", operation_id="get_readiness", responses=describe(Unavailable))
def get_readiness(stores: StoresDep) -> Readiness:
    """The database, the blob store and Redis answer; otherwise the problem says which does not.

    Without Redis, sets and jobs can still be read and jobs are still accepted: they start when it is back.
    """
    checks = {"database": stores.database.ping, "blobs": stores.blobs.check, "redis": stores.queue.ping}
    broken = [f"{name}: {fault}" for name, ping in checks.items() if (fault := _fault(ping))]
    if broken:
        raise Unavailable("The service is not ready.", value="; ".join(broken), hint="`value` says what is away.")
    return Readiness(checks=dict.fromkeys(checks, "ok"))


def _fault(ping: Callable[[], object]) -> str | None:
    try:
        ping()
    except ConsilienceError as error:
        return error.detail
    return None
