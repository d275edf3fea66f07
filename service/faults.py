"""Turns pydantic's errors into faults that a caller can act on: a JSON pointer, the value, what is allowed.

Values are quoted as short text and never echoed as JSON: NaN is no JSON, and an echo of a large body helps nobody.
"""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from consilience.contract.metrics import METRICS
from consilience.contract.places import Location, find_pointer, sentence
from consilience.contract.problems import Fault
from consilience.errors import QUOTED_LENGTH, InvalidRequest, quote

#: Faults listed in one problem.
FAULTS_LIMIT = 20


class InvalidFields(InvalidRequest):
    """A request with one or more faults, each with its place."""

    def __init__(self, faults: Sequence[Fault], hint: str | None = None) -> None:
        first = faults[0]
        more = f" (and {len(faults) - 1} more, see `errors`)" if len(faults) > 1 else ""
        super().__init__(first.detail + more, value=first.value, hint=hint, pointer=first.pointer)
        self.faults = tuple(faults[:FAULTS_LIMIT])


def explain(error: ValidationError, body: object, model: type[BaseModel]) -> InvalidFields:
    """The faults of `body`, which is not a `model`."""
    details = error.errors(include_url=False, include_context=True)
    return InvalidFields(_merge(_fault(detail, body, model) for detail in details))


def _fault(detail: Any, body: object, model: type[BaseModel]) -> Fault:
    location = detail["loc"]
    pointer = find_pointer(location, body, missing=detail["type"] == "missing")
    value = None if detail["type"] == "missing" else quote(detail["input"])
    if detail["type"] == "extra_forbidden":
        name, allowed = str(location[-1]), allowed_fields(model, location[:-1])
        return Fault(pointer=pointer, value=name, detail=_unknown("field", name, allowed))
    if detail["type"] == "union_tag_invalid":
        tag = str(detail["ctx"]["tag"])
        return Fault(pointer=pointer, value=tag, detail=_unknown("metric", tag, tuple(METRICS)))
    message = "This must be a JSON object" if detail["type"] == "model_type" else detail["msg"]
    return Fault(pointer=pointer, value=value, detail=sentence(message))


def _unknown(kind: str, name: str, allowed: Sequence[str]) -> str:
    close = get_close_matches(name, allowed, n=1)
    guess = f" Did you mean `{close[0]}`?" if close else ""
    return f"There is no {kind} {name[:QUOTED_LENGTH]!r}; allowed: {', '.join(allowed)}.{guess}"


def allowed_fields(model: type[BaseModel], location: Location) -> tuple[str, ...]:
    """The fields of the object at `location` inside `model`."""
    current: list[type[BaseModel]] = [model]
    for step in location:
        if step in METRICS:
            current = [METRICS[str(step)]]
            continue
        fields = [each.model_fields[str(step)] for each in current if step in each.model_fields]
        if fields:
            current = list(_models(fields[0].annotation))
    return tuple(dict.fromkeys(name for each in current for name in each.model_fields))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _models(get_args(annotation)[0])
    else:
        for part in get_args(annotation):
            yield from _models(part)


def _merge(faults: Iterable[Fault]) -> list[Fault]:
    """One fault a place: each member of a union that does not fit complains for itself."""
    merged: dict[str, Fault] = {}
    for fault in faults:
        known = merged.get(fault.pointer)
        if known is None:
            merged[fault.pointer] = fault
        elif fault.detail not in known.detail:
            merged[fault.pointer] = known.model_copy(update={"detail": f"{known.detail} Or: {fault.detail}"})
    return list(merged.values())
