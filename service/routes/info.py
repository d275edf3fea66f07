"""Routes of the service's description and its metrics."""

from fastapi import APIRouter

from consilience import __version__
from consilience.contract.base import METADATA_LIMIT_BYTES
from consilience.contract.info import Info, Limits
from consilience.contract.metrics import METRICS, Catalogue, catalogue
from consilience.datasets.builtin import OPTIONS
from consilience.formats.files import MEDIA_TYPES
from consilience.formats.items import files as items
from service.deps import SettingsDep, StoresDep
from service.settings import ServiceSettings

router = APIRouter(tags=["service"])


@router.get(
    "/v1/info",
    operation_id="get_info",
    summary="Get version and limits",
    response_description="The description of the service.",
)
def get_info(settings: SettingsDep, stores: StoresDep) -> Info:
    """Return the version, the accepted formats, all limits on requests and the state of the graph cache."""
    return Info(
        version=__version__,
        formats=tuple(MEDIA_TYPES),
        dataset_formats=tuple(items.MEDIA_TYPES),
        builtin_datasets=tuple(OPTIONS),
        metrics=tuple(METRICS),
        limits=limits_of(settings),
        graph_cache=stores.graphs.describe(),
    )


def limits_of(settings: ServiceSettings) -> Limits:
    """Return the limits of the settings; each has the name of its setting."""
    found = {"metadata_limit_bytes": METADATA_LIMIT_BYTES, "job_memory_limit_bytes": settings.job_memory_bytes}
    return Limits(**{name: getattr(settings, name) for name in Limits.model_fields if name not in found}, **found)


@router.get(
    "/v1/metrics", operation_id="list_metrics", summary="List available metrics", response_description="All metrics."
)
async def list_metrics() -> Catalogue:
    """Return all metrics with their options, range, direction, expected value at chance, cost and source."""
    return catalogue()
