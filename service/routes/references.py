"""Routes of reference sets."""

from typing import Any

from fastapi import APIRouter, Request, Response

from consilience import errors
from consilience.contract.references import ReferencePage, ReferenceRequest, ReferenceSet
from service.deps import Cursor, IdempotencyKey, NameFilterQuery, PageLimit, ReferencePath, ServiceDep, StoresDep
from service.openapi.examples import REFERENCE_BODY
from service.problems import TIMEOUT_RESPONSE, error_responses
from service.request_body import read_model
from service.responses import act_on_json, set_created

router = APIRouter(tags=["references"])

ERRORS = (
    errors.InvalidRequest,
    errors.NotFound,
    errors.UnpairedSides,
    errors.UnsupportedFormat,
    errors.TooLarge,
    errors.KeyReused,
)
SAME: dict[int | str, dict[str, Any]] = {
    200: {"description": "The same members with the same name and metadata were already stored.", "model": ReferenceSet}
}


@router.post(
    "/v1/references",
    status_code=201,
    operation_id="create_reference",
    summary="Create a reference set",
    response_description="The stored reference set.",
    responses={**SAME, **TIMEOUT_RESPONSE, **error_responses(*ERRORS)},
    openapi_extra={"requestBody": REFERENCE_BODY},
)
async def create_reference(
    request: Request, response: Response, service: ServiceDep, *, idempotency_key: IdempotencyKey = None
) -> ReferenceSet:
    """Create a reference set from stored embedding sets of the same items.

    A reference set is immutable. A new reference set with the same name is its next version. Its members cannot be deleted
    while it exists.
    """

    def make(body: object) -> tuple[ReferenceSet, bool]:
        wanted = read_model(ReferenceRequest, body)
        return service.stores.references.add(wanted.name, wanted.embeddings, wanted.metadata, idempotency_key)

    stored, created = await act_on_json(request, service, make)
    set_created(response, stored.links, created=created)
    return stored


@router.get(
    "/v1/references",
    operation_id="list_references",
    summary="List reference sets",
    response_description="One page of reference sets.",
    responses=error_responses(errors.InvalidRequest),
)
def list_references(
    stores: StoresDep, cursor: Cursor = None, limit: PageLimit = 20, name: NameFilterQuery = None
) -> ReferencePage:
    """Return one page of reference sets, newest first."""
    return stores.references.page(cursor, limit, name)


@router.get(
    "/v1/references/{reference_id}",
    operation_id="get_reference",
    summary="Get a reference set",
    response_description="The reference set.",
    responses=error_responses(errors.NotFound),
)
def get_reference(reference_id: ReferencePath, stores: StoresDep) -> ReferenceSet:
    """Return a reference set and its members."""
    return stores.references.get(reference_id)


@router.delete(
    "/v1/references/{reference_id}",
    status_code=204,
    operation_id="delete_reference",
    summary="Delete a reference set",
    response_description="The reference set was deleted.",
    responses=error_responses(errors.NotFound, errors.InUse),
)
def delete_reference(reference_id: ReferencePath, stores: StoresDep) -> None:
    """Delete a reference set. This fails with 409 while an unfinished job uses it. Its members are kept."""
    stores.references.delete(reference_id)
