"""Routes of embedding sets."""

from functools import partial
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response

from consilience import errors
from consilience.contract.embeddings import EmbeddingPage, EmbeddingSet
from consilience.contract.jobs import Job, Plan
from consilience.formats.files import open_file
from service import ingest
from service.deps import (
    Cursor,
    DryRunQuery,
    EmbeddingPath,
    IdempotencyKey,
    MetadataFilter,
    MetadataQuery,
    NameFilterQuery,
    NameQuery,
    PageLimit,
    Prefer,
    ServiceContext,
    ServiceDep,
    SettingsDep,
    StoresDep,
)
from service.extractions import ExtractionHandler, find_extraction
from service.multipart import JSON, MULTIPART, Upload, receive_file, receive_files
from service.openapi.examples import UPLOAD_BODY
from service.problems import TIMEOUT_RESPONSE, error_responses
from service.request_body import ResourceLabel, media_type_of, parse_metadata, read_resource_label
from service.responses import respond_with_job, set_created

router = APIRouter(tags=["embeddings"])

UPLOAD_ERRORS = (
    errors.InvalidRequest,
    errors.UnsupportedFormat,
    errors.UnreadableFile,
    errors.UnsupportedDtype,
    errors.InvalidShape,
    errors.TooFewRows,
    errors.NonFiniteValues,
    errors.TooLarge,
    errors.Unavailable,
    errors.StorageFull,
    errors.MissingExtra,
    errors.QuotaExceeded,
)
EXTRACTION_ERRORS = (
    errors.NotFound,
    errors.UnknownView,
    errors.ModelNotAllowed,
    errors.TooManyRequests,
)
UNNAMED = "unnamed"
ACCEPTED = 202
FILES = frozenset({"file"})
COLUMNS = frozenset({"ids", "groups"})
FIELDS = frozenset({"name", "metadata"})
SAME: dict[int | str, dict[str, Any]] = {
    200: {"description": "The same content with the same name and metadata was already stored.", "model": EmbeddingSet}
}
JOB_CREATED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The job that computes the set. With `dry_run`, the response is 200 with the cost estimate.",
        "model": Job,
    }
}


@router.post(
    "/v1/embeddings",
    status_code=201,
    operation_id="create_embedding",
    summary="Upload an embedding set, or compute one with a model",
    response_description="The stored embedding set.",
    response_model=EmbeddingSet,
    responses={
        **SAME,
        **JOB_CREATED,
        **TIMEOUT_RESPONSE,
        **error_responses(*UPLOAD_ERRORS, *EXTRACTION_ERRORS, errors.KeyReused),
    },
    openapi_extra={"requestBody": UPLOAD_BODY},
)
async def create_embedding(
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    name: NameQuery = UNNAMED,
    metadata: MetadataQuery = None,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    dry_run: DryRunQuery = False,
) -> EmbeddingSet | Response:
    """Upload the vectors of one or more layers, or request that the service computes them.

    Send the file as the body, or a form with the part `file` and optionally `name`, `metadata`, `ids` and `groups`.
    `ids` are the item ids of the rows, and `groups` are labels of rows that belong together. Both are JSON lists with one
    string or integer for each row.

    An array of shape (n, d) becomes one layer named "0". An array of shape (n, L, d) becomes layers "0", "1" and so on.
    Several named tensors become layers in natural order of their names. In a Parquet or Arrow table, each column of float
    lists becomes a layer, and the columns `id` and `group` become the ids and groups.

    The JSON body `{"model": ..., "dataset": ..., "view": ...}` starts a job that embeds a dataset with a model. The response
    is 202 with the job, whose result contains the id of the set. If the same model, items and settings were used before, the
    existing set is returned. The options `Prefer: wait` and `dry_run` apply to such jobs only.
    """
    label = ResourceLabel(name, parse_metadata(metadata))
    is_form = media_type_of(request) == MULTIPART
    receiving = receive_files(request, service, FILES, COLUMNS, FIELDS) if is_form else receive_file(request, service)
    async with receiving as upload:
        wish = await run_sync(find_extraction, upload)
        if wish is not None:
            act = partial(_request_extraction, service, {**_label(name, metadata), **wish}, idempotency_key, dry_run)
            return _as_response(await respond_with_job(await run_sync(act), service, prefer, response), response)
        keeping = partial(_keep, service, upload, label, idempotency_key)
        stored, created = await run_sync(keeping, limiter=service.ingest_limiter)
    set_created(response, stored.links, created=created)
    return stored


def _keep(service: ServiceContext, upload: Upload, label: ResourceLabel, key: str | None) -> tuple[EmbeddingSet, bool]:
    settings, (path, media_type) = service.settings, upload.files["file"]
    label = read_resource_label(upload.fields, label)
    with open_file(path, media_type, ingest.format_limits(settings)) as bare:
        file = bare.with_columns(upload.column("ids"), upload.column("groups"))
        return ingest.store(service.stores, settings.data_dir, file, label.name, label.metadata, key=key)


def _label(name: str, metadata: str | None) -> dict[str, Any]:
    """Return the name and metadata of the query parameters, without defaults."""
    given = {"name": None if name == UNNAMED else name, "metadata": parse_metadata(metadata)}
    return {field: value for field, value in given.items() if value}


def _request_extraction(service: ServiceContext, wish: dict[str, Any], key: str | None, dry_run: bool) -> Job | Plan:
    extractions = ExtractionHandler(service.settings, service.stores)
    request = extractions.read(wish)
    return extractions.plan(request) if dry_run else extractions.submit(request, key)


def _as_response(answer: Job | Response, response: Response) -> Response:
    """Return a job as a response, because the route's own response model is a set."""
    if isinstance(answer, Response):
        return answer
    status = response.status_code or ACCEPTED
    return Response(answer.model_dump_json(by_alias=True), status, dict(response.headers), media_type=JSON)


@router.get(
    "/v1/embeddings",
    operation_id="list_embeddings",
    summary="List embedding sets",
    response_description="One page of embedding sets.",
    responses=error_responses(errors.InvalidRequest),
)
def list_embeddings(
    stores: StoresDep,
    cursor: Cursor = None,
    limit: PageLimit = 20,
    name: NameFilterQuery = None,
    metadata: MetadataFilter = None,
) -> EmbeddingPage:
    """Return one page of embedding sets, newest first."""
    return stores.embeddings.page(cursor, limit, name, parse_metadata(metadata) or None)


@router.get(
    "/v1/embeddings/{embedding_id}",
    operation_id="get_embedding",
    summary="Get an embedding set",
    response_description="The embedding set.",
    responses=error_responses(errors.NotFound),
)
def get_embedding(embedding_id: EmbeddingPath, stores: StoresDep) -> EmbeddingSet:
    """Return the description of an embedding set. The vectors are not included."""
    return stores.embeddings.get(embedding_id)


@router.delete(
    "/v1/embeddings/{embedding_id}",
    status_code=204,
    operation_id="delete_embedding",
    summary="Delete an embedding set",
    response_description="The set was deleted.",
    responses=error_responses(errors.NotFound, errors.InUse),
)
def delete_embedding(embedding_id: EmbeddingPath, stores: StoresDep, settings: SettingsDep) -> None:
    """Delete an embedding set. This fails with 409 while an unfinished job or a reference set uses it."""
    ingest.remove(stores, settings.data_dir, embedding_id)
