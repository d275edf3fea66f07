"""Maps: fit or upload, look, download, forget, translate."""

from functools import partial
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from consilience import errors
from consilience.contract.jobs import Job, Plan
from consilience.contract.maps import MapPage, StoredMap, TranslatedVectors
from consilience.formats.map_files import dump_map
from service.answers import act_on_json, answer_with_job
from service.bodies import media_type_of
from service.deps import (
    Cursor,
    DryRun,
    IdempotencyKey,
    Limit,
    MapPath,
    NameFilter,
    NameQuery,
    Prefer,
    ServiceDep,
    SettingsDep,
    StoresDep,
)
from service.examples import APPLY_BODY, MAP_BODY
from service.maps import Maps
from service.problems import STALLED, describe
from service.uploads import JSON, receive_file

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
        "description": "The finished job (`Prefer: wait`), the plan (`dry_run`), or the same map, which was there already.",
        "model": Job | Plan | StoredMap,
    },
    201: {"description": "The map of the file.", "model": StoredMap},
}
TRANSLATED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The vectors' translations, the finished job (`Prefer: wait`), or the plan (`dry_run`).",
        "model": TranslatedVectors | Job | Plan,
    }
}


@router.post(
    "/v1/maps",
    status_code=202,
    operation_id="create_map",
    response_model=Job,
    responses={**CREATED, **STALLED, **describe(*FIT_ERRORS)},
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
    dry_run: DryRun = False,
) -> Job | Response:
    """Fit a map from one stored set's space to another's; or keep one that was fitted elsewhere.

    With JSON 202 and a job, whose result is the map: fitted on some rows, judged on the others. With a map's file (a download,
    or what `consilience map fit` wrote) as the body 201 and the map, under the `name` of the query.
    """
    maps = Maps(service.settings, service.stores)
    if media_type_of(request) == MAP_TYPE:
        async with receive_file(request, service, (MAP_TYPE, JSON)) as upload:
            keeping = partial(maps.keep, upload.files["file"][0], name, idempotency_key)
            stored, created = await run_sync(keeping, limiter=service.ingests)
        headers = {"Location": stored.links["self"]}
        return Response(stored.model_dump_json(by_alias=True), 201 if created else 200, headers, JSON)
    fitting = partial(maps.fit, key=idempotency_key, dry_run=dry_run)
    answer = await act_on_json(request, service, fitting, allowed=(JSON, MAP_TYPE))
    return await answer_with_job(answer, service, prefer, response)


@router.get("/v1/maps", operation_id="list_maps", responses=describe(errors.InvalidRequest))
def list_maps(stores: StoresDep, cursor: Cursor = None, limit: Limit = 20, name: NameFilter = None) -> MapPage:
    """Maps, newest first."""
    return stores.maps.page(cursor, limit, name)


@router.get("/v1/maps/{map_id}", operation_id="get_map", responses=describe(errors.NotFound))
def get_map(map_id: MapPath, stores: StoresDep) -> StoredMap:
    """One map: its card says what it was fitted on and how well it does."""
    return stores.maps.get(map_id)


@router.get(
    "/v1/maps/{map_id}/file",
    operation_id="get_map_file",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Safetensors, the card in the header's metadata.",
            "content": {MAP_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        },
        **describe(errors.NotFound, errors.Unavailable),
    },
)
def get_map_file(map_id: MapPath, stores: StoresDep) -> StreamingResponse:
    """The map as a file, which `consilience map apply` and `consilience.mapping.load` read."""
    _, file = stores.maps.open(map_id)
    disposition = f'attachment; filename="{map_id}.safetensors"'
    return StreamingResponse(dump_map(file), media_type=MAP_TYPE, headers={"Content-Disposition": disposition})


@router.delete(
    "/v1/maps/{map_id}",
    status_code=204,
    operation_id="delete_map",
    responses=describe(errors.NotFound, errors.InUse),
)
def delete_map(map_id: MapPath, stores: StoresDep, settings: SettingsDep) -> None:
    """Forget a map; not while an unfinished job needs it. Sets that it translated stay."""
    Maps(settings, stores).remove(map_id)


@router.post(
    "/v1/maps/{map_id}/apply",
    status_code=202,
    operation_id="apply_map",
    response_model=Job,
    responses={**TRANSLATED, **STALLED, **describe(*ERRORS, errors.UnknownLayer)},
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
    dry_run: DryRun = False,
) -> Job | Response:
    """Translate vectors into the space that the map leads to.

    A few `vectors` are answered at once: 200. A stored set, named by `embedding`, is translated by a job, whose result is a new
    set: 202, or 200 with `Prefer: wait=N`, if in time.
    """
    maps = Maps(service.settings, service.stores)

    def act(body: object) -> Job | Plan | TranslatedVectors:
        return maps.apply(map_id, body, idempotency_key, dry_run=dry_run)

    answer = await act_on_json(request, service, act)
    if isinstance(answer, TranslatedVectors):
        return Response(answer.model_dump_json(), media_type=JSON)
    return await answer_with_job(answer, service, prefer, response)
