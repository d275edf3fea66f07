"""Routes of datasets."""

from functools import partial
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response

from consilience import errors
from consilience.contract.datasets import BuiltinRequest, Dataset, DatasetPage
from consilience.formats.items.files import MEDIA_TYPES, open_items
from consilience.formats.items.item import ViewChoice
from consilience.stores.datasets import DatasetLabel
from service.deps import (
    Cursor,
    DatasetPath,
    IdempotencyKey,
    MetadataQuery,
    NameFilterQuery,
    NameQuery,
    PageLimit,
    ServiceContext,
    ServiceDep,
    SettingsDep,
    StoresDep,
    ViewsQuery,
)
from service.ingest import dataset_repository, item_limits, parse_views, remove_record
from service.multipart import JSON, MULTIPART, Upload, receive_file, receive_files
from service.openapi.examples import DATASET_BODY
from service.problems import TIMEOUT_RESPONSE, error_responses
from service.request_body import (
    BodyLimits,
    ResourceLabel,
    media_type_of,
    parse_json,
    parse_metadata,
    read_model,
    read_resource_label,
    receive_bytes,
)
from service.responses import set_created

router = APIRouter(tags=["datasets"])

UPLOAD_ERRORS = (
    errors.InvalidRequest,
    errors.UnsupportedFormat,
    errors.UnsupportedDtype,
    errors.UnreadableFile,
    errors.BadItem,
    errors.NotFound,
    errors.TooLarge,
    errors.Unavailable,
    errors.StorageFull,
    errors.MissingExtra,
    errors.QuotaExceeded,
    errors.KeyReused,
)
FILES = frozenset({"file"})
FIELDS = frozenset({"name", "metadata", "views"})
SAME: dict[int | str, dict[str, Any]] = {
    200: {"description": "The same content with the same name and metadata was already stored.", "model": Dataset}
}


@router.post(
    "/v1/datasets",
    status_code=201,
    operation_id="create_dataset",
    summary="Upload or generate a dataset",
    response_description="The stored dataset.",
    responses={**SAME, **TIMEOUT_RESPONSE, **error_responses(*UPLOAD_ERRORS)},
    openapi_extra={"requestBody": DATASET_BODY},
)
async def create_dataset(
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    name: NameQuery = "unnamed",
    metadata: MetadataQuery = None,
    views: ViewsQuery = None,
    idempotency_key: IdempotencyKey = None,
) -> Dataset:
    """Upload a dataset of items with one or more views, or generate a built-in one.

    Send the file as the body, or a form with the part `file` and optionally `name`, `metadata` and `views`. In JSON lines and
    Parquet, the field or column `id` contains the item ids, and each other field or column of strings becomes a view. In
    Parquet, columns of images become views too. A zip or tar archive of images needs a `manifest.jsonl` whose field `image`
    is the name of a file in the archive.

    `views` selects the fields to read and gives the kind of each: `text`, `code` or `image`. By default the kinds follow
    from the names and types of the fields. The JSON body `{"builtin": "scenes:n=64"}` generates a built-in dataset;
    `GET /v1/info` lists the available ones.
    """
    label, choice = (
        ResourceLabel(name, parse_metadata(metadata)),
        parse_views(views.encode() if views else None, "views"),
    )
    media_type = media_type_of(request)
    if media_type == JSON:
        stored, created = await _build(request, service, idempotency_key)
    else:
        is_form = media_type == MULTIPART
        receiving = (
            receive_files(request, service, FILES, frozenset(), FIELDS)
            if is_form
            else receive_file(request, service, [*MEDIA_TYPES, JSON])
        )
        async with receiving as upload:
            keeping = partial(_keep, service, upload, label, choice, idempotency_key)
            stored, created = await run_sync(keeping, limiter=service.ingest_limiter)
    set_created(response, stored.links, created=created)
    return stored


async def _build(request: Request, service: ServiceContext, key: str | None) -> tuple[Dataset, bool]:
    settings = service.settings
    body = await receive_bytes(request, BodyLimits(settings.inline_limit_bytes, settings.upload_idle_limit_s))

    def build() -> tuple[Dataset, bool]:
        wanted = read_model(BuiltinRequest, parse_json(body))
        return dataset_repository(service.stores, settings.data_dir).add_builtin(wanted, key)

    return await run_sync(build, limiter=service.ingest_limiter)


def _keep(
    service: ServiceContext, upload: Upload, label: ResourceLabel, choice: ViewChoice, key: str | None
) -> tuple[Dataset, bool]:
    settings, (path, media_type) = service.settings, upload.files["file"]
    label = read_resource_label({name: text for name, text in upload.fields.items() if name != "views"}, label)
    choice = parse_views(upload.fields["views"], "/views") if "views" in upload.fields else choice
    with open_items(path, media_type, choice, item_limits(settings)) as items:
        own = DatasetLabel(label.name, label.metadata)
        return dataset_repository(service.stores, settings.data_dir).add(items, own, key)


@router.get(
    "/v1/datasets",
    operation_id="list_datasets",
    summary="List stored datasets",
    response_description="One page of datasets.",
    responses=error_responses(errors.InvalidRequest),
)
def list_datasets(
    stores: StoresDep, cursor: Cursor = None, limit: PageLimit = 20, name: NameFilterQuery = None
) -> DatasetPage:
    """Return one page of datasets, newest first."""
    return stores.datasets.page(cursor, limit, name)


@router.get(
    "/v1/datasets/{dataset_id}",
    operation_id="get_dataset",
    summary="Get a dataset",
    response_description="The dataset.",
    responses=error_responses(errors.NotFound),
)
def get_dataset(dataset_id: DatasetPath, stores: StoresDep) -> Dataset:
    """Return the description of a dataset. The items are not included."""
    return stores.datasets.get(dataset_id)


@router.delete(
    "/v1/datasets/{dataset_id}",
    status_code=204,
    operation_id="delete_dataset",
    summary="Delete a dataset",
    response_description="The dataset was deleted.",
    responses=error_responses(errors.NotFound, errors.InUse),
)
def delete_dataset(dataset_id: DatasetPath, stores: StoresDep, settings: SettingsDep) -> None:
    """Delete a dataset. This fails with 409 while an unfinished job uses it. Embedding sets computed from it are kept."""
    remove_record(stores, settings.data_dir, stores.datasets.delete, dataset_id)
