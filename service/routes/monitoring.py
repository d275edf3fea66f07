"""What Prometheus reads."""

from anyio import move_on_after, to_thread
from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from service.deps import ServiceDep
from service.figures import no_figures, read_figures

router = APIRouter(tags=["health"])

#: Prometheus gives up after ten seconds, unless it is told otherwise.
LIMIT_S = 5.0


@router.get(
    "/metrics",
    operation_id="get_metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus's text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
async def get_metrics(service: ServiceDep) -> Response:
    """Requests of this process, and how the whole service stands: jobs, queue, workers, sets, webhooks, graphs.

    It answers also while the database or Redis is away: then what they would tell is absent, and `consilience_store_up`
    says so. It needs the scope `admin`.
    """
    figures = no_figures()
    with move_on_after(LIMIT_S):
        # A scrape that was given up still holds its turn: those that hang do not pile up.
        figures = await to_thread.run_sync(
            read_figures, service.stores, abandon_on_cancel=True, limiter=service.scrapes
        )
    text = await run_in_threadpool(lambda: generate_latest(service.meters.registry) + generate_latest(figures))
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
