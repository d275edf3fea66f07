"""Requests in JSON: from parsed values to models, and where in them a fault is."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from consilience.errors import InvalidRequest
from service.faults import explain
from service.metadata import DEPTH_LIMIT, check_metadata, walk

#: Values in a request besides its vectors; far more than the largest sensible one has.
VALUES_LIMIT = 10_000

Model = TypeVar("Model", bound=BaseModel)


def read_model(model: type[Model], body: object) -> Model:
    """A request's model from its parsed JSON.

    Raises
    ------
    InvalidFields
        With each fault's JSON pointer.
    InvalidRequest
        Nested too deeply, or too many values: pydantic would report each of a million faults.
    """
    for count, (depth, _) in enumerate(walk(body)):
        if depth > DEPTH_LIMIT or count > VALUES_LIMIT:
            raise InvalidRequest(
                f"A request has at most {VALUES_LIMIT} values besides its vectors, {DEPTH_LIMIT} levels deep.",
                limit=VALUES_LIMIT if count > VALUES_LIMIT else DEPTH_LIMIT,
            )
    try:
        request = model.model_validate(body)
    except ValidationError as error:
        raise explain(error, body, model) from None
    check_metadata(getattr(request, "metadata", {}), "/metadata")
    return request
