"""The catalogue of metrics."""

from fastapi import APIRouter

from consilience.contract.metrics import Catalogue, catalogue

router = APIRouter(tags=["service"])


@router.get("/v1/metrics", operation_id="list_metrics")
async def list_metrics() -> Catalogue:
    """Every metric with its options, range, direction, value at chance, cost and source."""
    return catalogue()
