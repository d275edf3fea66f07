"""Routes of maps."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from consilience import errors
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Job, Plan
from consilience.contract.maps import MapDocument, MapPage, MapRequest, StoredMap, TranslatedVectors, TranslationRequest
from consilience.contract.pointers import at_pointer
from consilience.errors import InvalidRequest, TooLarge
from consilience.formats.files import parse_rows
from consilience.formats.map_files import dump_map, read_map
from consilience.maps.apply import translate_vectors
from consilience.planning.alignments import SideShape
from consilience.planning.maps import plan_map, plan_translation
from consilience.stores.files import upload_lock
from service.deps import (
    Cursor,
    DryRunQuery,
    IdempotencyKey,
    MapPath,
    NameFilterQuery,
    NameQuery,
    PageLimit,
    Prefer,
    ServiceDep,
    SettingsDep,
    StoresDep,
)
from service.dispatch import Dispatch
from service.ingest import remove_record
from service.multipart import JSON, receive_file
from service.openapi.examples import APPLY_BODY, MAP_BODY
from service.problems import TIMEOUT_RESPONSE, error_responses
from service.request_body import check_metadata, check_size, media_type_of, read_model
from service.responses import act_on_json, respond_with_job
from service.settings import ServiceSettings
from service.stores import Stores

#: Maximum number of values of inline vectors, before and after their translation, and maximum cost of it.
VALUES_MAX = 1 << 20
FLOPS_MAX = 1e10
#: Maximum size of the model card of an uploaded map; the service's own cards have less than half.
MODEL_CARD_LIMIT_BYTES = 65_536


@dataclass(frozen=True)
class MapHandler:
    """Fits, stores, deletes and applies maps."""

    settings: ServiceSettings
    stores: Stores
    dispatch: Dispatch = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dispatch", Dispatch(self.settings, self.stores))

    def fit(self, body: object, key: str | None, *, dry_run: bool) -> Job | Plan:
        """Create a job that fits a map between two stored sets, or return its cost estimate."""
        request = read_model(MapRequest, body)
        self.dispatch.check_webhook(request.webhook)
        a, b = (self._find(f"/{name}/embedding", getattr(request, name).embedding) for name in ("a", "b"))
        plan = plan_map(request, SideShape.of(a), SideShape.of(b), self.dispatch.limits)
        if dry_run:
            return plan
        added = self.dispatch.add("map", request.model_dump(mode="json"), plan, (a.id, b.id), key)
        return self.dispatch.deliver(added)

    def keep(self, path: Path, name: str, key: str | None) -> tuple[StoredMap, bool]:
        """Store the file of a map. The second value is False if the map already existed."""
        file = read_map(path)
        check_model_card(file.card)
        with upload_lock(self.settings.data_dir):
            return self.stores.maps.add(name, file, idempotency_key=key)

    def remove(self, map_id: str) -> None:
        """Delete a map."""
        remove_record(self.stores, self.settings.data_dir, self.stores.maps.delete, map_id)

    def apply(self, map_id: str, body: object, key: str | None, *, dry_run: bool) -> Job | Plan | TranslatedVectors:
        """Translate a few vectors, create a job that translates a stored set, or return its cost estimate."""
        vectors = _take_vectors(body)
        request = read_model(TranslationRequest, body)
        if vectors is not None:
            return self._answer(map_id, request, vectors)
        self.dispatch.check_webhook(request.webhook)
        stored = self.stores.maps.get(map_id)
        _check_model(stored, request.model)
        source = self._find("/embedding", request.embedding or "")
        dims = stored.model_card.a.dim, stored.model_card.b.dim
        plan = plan_translation(SideShape.of(source), request.layer, dims, self.dispatch.limits)
        if dry_run:
            return plan
        body = {"map": map_id, **request.model_dump(mode="json", exclude={"vectors"})}
        return self.dispatch.deliver(self.dispatch.add("translation", body, plan, [source.id], key, maps=[map_id]))

    def _find(self, pointer: str, embedding_id: str) -> EmbeddingSet:
        with at_pointer(pointer):
            return self.stores.embeddings.get(embedding_id)

    def _answer(self, map_id: str, request: TranslationRequest, vectors: object) -> TranslatedVectors:
        stored, file = self.stores.maps.open(map_id)
        _check_model(stored, request.model)
        rows = parse_rows(vectors, "/vectors")
        widest = max(stored.model_card.a.dim, stored.model_card.b.dim)
        work = 2.0 * sum(weights.size for weights, _ in file.steps)
        most = int(min(VALUES_MAX // widest, FLOPS_MAX // work))
        if len(rows) > most:
            raise TooLarge(
                f"The request has {len(rows)} vectors; at most {most} of this size can be translated at once.",
                value=len(rows),
                limit=most,
                hint="Send fewer vectors, or upload them as a set and send its id as `embedding`.",
                pointer="/vectors",
            )
        with at_pointer("/vectors"):
            return TranslatedVectors(map=map_id, vectors=translate_vectors(file, rows).tolist())


def check_model_card(card: MapDocument) -> None:
    """Raise an error if an uploaded model card is larger than a fit could produce.

    Raises
    ------
    InvalidRequest, TooLarge
    """
    check_metadata(card.metadata, "/card/metadata")
    for side in ("a", "b"):
        check_metadata(getattr(card, side).model_dump(mode="json"), f"/card/{side}")
    check_size(
        "The model card of the map", card.model_dump_json(by_alias=True).encode(), MODEL_CARD_LIMIT_BYTES, "/card"
    )


def _take_vectors(body: object) -> object:
    """Remove the vectors from a request and return them; `[]` takes their place. The format's own checks are faster."""
    if not isinstance(body, dict) or not isinstance(body.get("vectors"), list):
        return None
    vectors, body["vectors"] = body["vectors"], []
    return vectors


def _check_model(stored: StoredMap, model: str | None) -> None:
    known = stored.model_card.a.model
    if model is not None and known is not None and model != known:
        raise InvalidRequest(
            f"The map takes vectors of the model {known}; got vectors of {model}.",
            value=model,
            limit=known,
            hint="Use a map that was fitted on this model.",
            pointer="/model",
        )


router = APIRouter(tags=["maps"])

MAP_TYPE = "application/x-safetensors"
ERRORS = (
    errors.InvalidRequest,
    errors.UnsupportedFormat,
    errors.UnreadableFile,
    errors.NonFiniteValues,
    errors.InvalidShape,
    errors.UnsupportedDtype,
    errors.TooLarge,
    errors.NotFound,
    errors.KeyReused,
    errors.TooManyRequests,
    errors.TooExpensive,
    errors.Unavailable,
)
FIT_ERRORS = (
    *ERRORS,
    errors.UnpairedSides,
    errors.UnknownLayer,
    errors.TooFewRows,
    errors.StorageFull,
    errors.QuotaExceeded,
)
CREATED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The finished job if `Prefer: wait` is set, the cost estimate if `dry_run` is set, or the uploaded "
        "map if it was already stored.",
        "model": Job | Plan | StoredMap,
    },
    201: {"description": "The uploaded map.", "model": StoredMap},
}
TRANSLATED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The translated vectors, the finished job if `Prefer: wait` is set, or the cost estimate if "
        "`dry_run` is set.",
        "model": TranslatedVectors | Job | Plan,
    }
}


@router.post(
    "/v1/maps",
    status_code=202,
    operation_id="create_map",
    summary="Fit a map, or upload one",
    response_description="The job, which has not finished yet.",
    response_model=Job,
    responses={**CREATED, **TIMEOUT_RESPONSE, **error_responses(*FIT_ERRORS)},
    openapi_extra={"requestBody": MAP_BODY},
)
async def create_map(
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    name: NameQuery = "unnamed",
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRunQuery = False,
) -> Job | Response:
    """Fit a map from the space of one stored set to the space of another, or store a map that was fitted elsewhere.

    With a JSON body, the response is 202 with a job whose result is the map. The map is fitted on one part of the rows and
    evaluated on the others. With the file of a map as the body, the response is 201 with the stored map; `name` is its
    label. Such files come from `GET /v1/maps/{map_id}/file` or from `consilience map fit`.
    """
    maps = MapHandler(service.settings, service.stores)
    if media_type_of(request) == MAP_TYPE:
        async with receive_file(request, service, (MAP_TYPE, JSON)) as upload:
            keeping = partial(maps.keep, upload.files["file"][0], name, idempotency_key)
            stored, created = await run_sync(keeping, limiter=service.ingest_limiter)
        headers = {"Location": stored.links["self"]}
        return Response(stored.model_dump_json(by_alias=True), 201 if created else 200, headers, JSON)
    fitting = partial(maps.fit, key=idempotency_key, dry_run=dry_run)
    answer = await act_on_json(request, service, fitting, allowed=(JSON, MAP_TYPE))
    return await respond_with_job(answer, service, prefer, response)


@router.get(
    "/v1/maps",
    operation_id="list_maps",
    summary="List stored maps",
    response_description="One page of maps.",
    responses=error_responses(errors.InvalidRequest),
)
def list_maps(stores: StoresDep, cursor: Cursor = None, limit: PageLimit = 20, name: NameFilterQuery = None) -> MapPage:
    """Return one page of maps, newest first."""
    return stores.maps.page(cursor, limit, name)


@router.get(
    "/v1/maps/{map_id}",
    operation_id="get_map",
    summary="Get a map",
    response_description="The map.",
    responses=error_responses(errors.NotFound),
)
def get_map(map_id: MapPath, stores: StoresDep) -> StoredMap:
    """Return a map and its model card, which describes its training data and its quality."""
    return stores.maps.get(map_id)


@router.get(
    "/v1/maps/{map_id}/file",
    operation_id="get_map_file",
    summary="Download a map",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The map as a safetensors file. The metadata of its header contains the model card.",
            "content": {MAP_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
        **error_responses(errors.NotFound, errors.Unavailable),
    },
)
def get_map_file(map_id: MapPath, stores: StoresDep) -> StreamingResponse:
    """Return the map as a safetensors file, which `consilience map apply` and `consilience.maps.api.load_map` can read."""
    _, file = stores.maps.open(map_id)
    disposition = f'attachment; filename="{map_id}.safetensors"'
    return StreamingResponse(dump_map(file), media_type=MAP_TYPE, headers={"Content-Disposition": disposition})


@router.delete(
    "/v1/maps/{map_id}",
    status_code=204,
    operation_id="delete_map",
    summary="Delete a map",
    response_description="The map was deleted.",
    responses=error_responses(errors.NotFound, errors.InUse),
)
def delete_map(map_id: MapPath, stores: StoresDep, settings: SettingsDep) -> None:
    """Delete a map. This fails with 409 while an unfinished job uses it. Sets that it translated are kept."""
    MapHandler(settings, stores).remove(map_id)


@router.post(
    "/v1/maps/{map_id}/apply",
    status_code=202,
    operation_id="apply_map",
    summary="Translate vectors with a map",
    response_description="The job, which has not finished yet.",
    response_model=Job,
    responses={**TRANSLATED, **TIMEOUT_RESPONSE, **error_responses(*ERRORS, errors.UnknownLayer)},
    openapi_extra={"requestBody": APPLY_BODY},
)
async def apply_map(
    map_id: MapPath,
    request: Request,
    response: Response,
    service: ServiceDep,
    *,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRunQuery = False,
) -> Job | Response:
    """Translate vectors into the space that the map leads to.

    Inline `vectors` are translated at once, and the response is 200. A stored set, `embedding`, is translated by a job whose
    result is a new set. The response is then 202, or 200 if the job finishes within `Prefer: wait=N`.
    """
    maps = MapHandler(service.settings, service.stores)

    def act(body: object) -> Job | Plan | TranslatedVectors:
        return maps.apply(map_id, body, idempotency_key, dry_run=dry_run)

    answer = await act_on_json(request, service, act)
    if isinstance(answer, TranslatedVectors):
        return Response(answer.model_dump_json(), media_type=JSON)
    return await respond_with_job(answer, service, prefer, response)
