"""The user's own words for a set: its name and metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from consilience.contract.base import Name
from consilience.errors import InvalidRequest
from service.bodies import parse_json
from service.metadata import parse_metadata

NAMES: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(frozen=True)
class Label:
    """A set's name and metadata."""

    name: str
    metadata: dict[str, Any]


def read_label(fields: Mapping[str, bytes], default: Label) -> Label:
    """The label that a form's parts give; what they leave out is that of `default`."""
    texts = {name: value.decode("utf-8", "replace") for name, value in fields.items()}
    name = _parse_name(texts["name"]) if "name" in texts else default.name
    metadata = parse_metadata(texts["metadata"], "/metadata") if "metadata" in texts else default.metadata
    return Label(name, metadata)


def _parse_name(text: str) -> str:
    """Plain text, or a JSON string: a name itself cannot begin with a quote."""
    value = parse_json(text.encode(), "/name") if text.startswith('"') else text
    try:
        return NAMES.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]["msg"]
        raise InvalidRequest(f"The name cannot be used: {detail}.", value=text, pointer="/name") from None
