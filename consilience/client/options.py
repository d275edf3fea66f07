"""Options as a caller writes them, checked before anything is sent."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from consilience.contract.jobs import ScoringOptions
from consilience.errors import InvalidRequest


def options_of(options: ScoringOptions | None, fields: Mapping[str, Any]) -> ScoringOptions:
    """The options, with single fields replaced; InvalidRequest names the first field that cannot be used."""
    try:
        return ScoringOptions.model_validate({**_given(options), **fields})
    except ValidationError as error:
        raise invalid(error) from error


def invalid(error: ValidationError) -> InvalidRequest:
    """The first fault as our own error; the others are notes."""
    first, *others = error.errors(include_url=False, include_context=False)
    pointer = _pointer(first["loc"])
    refusal = InvalidRequest(f"{pointer}: {first['msg']}.", value=first["input"], pointer=pointer)
    for fault in others:
        refusal.add_note(f"{_pointer(fault['loc'])}: {fault['msg']}.")
    return refusal


def _given(options: ScoringOptions | None) -> dict[str, Any]:
    """What was set on purpose; the defaults stay the service's."""
    return {} if options is None else {name: getattr(options, name) for name in options.model_fields_set}


def _pointer(location: tuple[int | str, ...]) -> str:
    return "/" + "/".join(str(part) for part in location)
