"""Options as a caller writes them, checked before anything is sent."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from consilience.contract.base import Request
from consilience.contract.pointers import find_pointer, sentence
from consilience.errors import InvalidRequest

Options = TypeVar("Options", bound=Request)


def options_of(kind: type[Options], options: Options | None, fields: Mapping[str, Any]) -> Options:
    """The options, with single fields replaced; InvalidRequest names the first field that cannot be used."""
    body = {**_given(options), **fields}
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise invalid(error, body) from error


def invalid(error: ValidationError, body: Mapping[str, Any]) -> InvalidRequest:
    """The first fault as our own error, by its place in what the caller wrote; the others are notes."""
    faults = error.errors(include_url=False, include_context=False)
    pointers = [find_pointer(fault["loc"], body, missing=fault["type"] == "missing") for fault in faults]
    refusal = InvalidRequest(
        f"{pointers[0]}: {sentence(faults[0]['msg'])}", value=faults[0]["input"], pointer=pointers[0]
    )
    for pointer, fault in zip(pointers[1:], faults[1:], strict=True):
        refusal.add_note(f"{pointer}: {sentence(fault['msg'])}")
    return refusal


def _given(options: Request | None) -> dict[str, Any]:
    """What was set on purpose; the defaults stay the service's."""
    return {} if options is None else {name: getattr(options, name) for name in options.model_fields_set}
