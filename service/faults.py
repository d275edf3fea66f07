"""Turns pydantic's errors into faults that a caller can act on: a JSON pointer, the value, what is allowed.

Values are quoted as short text and never echoed as JSON: NaN is no JSON, and an echo of a large body helps nobody.
"""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import PydanticUndefined

from consilience.contract.maps import MAPS
from consilience.contract.metrics import METRICS
from consilience.contract.places import Location, find_pointer, sentence
from consilience.contract.problems import Fault
from consilience.errors import InvalidRequest
from consilience.quoting import QUOTED_LENGTH, quote

#: Faults listed in one problem.
FAULTS_LIMIT = 20
LISTS = {list, tuple}
#: The unions whose members one field tells apart: what its words name, and the members by them.
TAGGED: dict[str, tuple[str, dict[str, type[BaseModel]]]] = {
    "metric": ("metric", {**METRICS}),
    "kind": ("kind of map", {**MAPS}),
}


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
    return InvalidFields(_merge(_fault(detail, body, model) for detail in details if not _is_consequence(detail)))


def _is_consequence(detail: Any) -> bool:
    """Whether a list is said to be too short only because of the faults of its entries, which pydantic leaves out."""
    given = detail["input"]
    return detail["type"] == "too_short" and isinstance(given, list) and len(given) >= detail["ctx"]["min_length"]


def _fault(detail: Any, body: object, model: type[BaseModel]) -> Fault:
    location = detail["loc"]
    pointer = find_pointer(location, body, missing=detail["type"] == "missing")
    value = None if detail["type"] == "missing" else quote(detail["input"])
    if detail["type"] == "extra_forbidden":
        name, allowed = str(location[-1]), allowed_fields(model, location[:-1], body)
        return Fault(pointer=pointer, value=name, detail=_unknown("field", name, allowed))
    if detail["type"] == "union_tag_invalid":
        word = str(detail["ctx"]["tag"])
        noun, kinds = TAGGED[_find_tag(model, location, body)]
        return Fault(pointer=pointer, value=word, detail=_unknown(noun, word, tuple(kinds)))
    if detail["type"] in {"union_tag_not_found", "model_attributes_type"}:
        tag = _find_tag(model, location, body)
        forms = f"This must be the name of a {TAGGED[tag][0]} or a JSON object with `{tag}` and its options."
        return Fault(pointer=pointer, value=value, detail=forms)
    if detail["type"] in {"too_short", "too_long"}:
        return Fault(pointer=pointer, value=value, detail=_length(**detail["ctx"]))
    if detail["type"] in {"literal_error", "model_type", "tuple_type"}:
        return Fault(
            pointer=pointer,
            value=value,
            detail=_forms(model, location, body, detail["input"]) or sentence(detail["msg"]),
        )
    return Fault(pointer=pointer, value=value, detail=sentence(detail["msg"]))


def _find_tag(model: type[BaseModel], location: Location, body: object) -> str:
    """The field that tells the members of the union at `location` apart."""
    members = list(_members(_annotation(model, location, body)))
    return next(tag for tag, (_, kinds) in TAGGED.items() if any(kind in members for kind in kinds.values()))


def _length(
    *, actual_length: int | None, min_length: int | None = None, max_length: int | None = None, **_kind: object
) -> str:
    """How many entries there may be; pydantic's own words call a list what Python makes of it."""
    limit = f"at most {max_length}" if min_length is None else f"at least {min_length}"
    entries = "entry" if (max_length or min_length) == 1 else "entries"
    return f"There must be {limit} {entries}, not {'more' if actual_length is None else actual_length}."


def _unknown(kind: str, name: str, allowed: Sequence[str]) -> str:
    return f"There is no {kind} {name[:QUOTED_LENGTH]!r}; allowed: {', '.join(allowed)}.{_guess(name, allowed)}"


def _guess(name: object, allowed: Iterable[str]) -> str:
    close = get_close_matches(name, allowed, n=1) if isinstance(name, str) else ()
    return f" Did you mean `{close[0]}`?" if close else ""


def _forms(model: type[BaseModel], location: Location, body: object, given: object) -> str:
    """What may stand where something else was given: words, a list, an object; empty where that cannot be told."""
    members = list(_members(_annotation(model, location, body)))
    words = [word for each in members if get_origin(each) is Literal for word in get_args(each)]
    fields = dict.fromkeys(_fields(members))
    forms = list(map(repr, words))
    if any(get_origin(each) in LISTS for each in members):
        forms.append("a list")
    if fields:
        forms.append(f"a JSON object with {', '.join(fields)}")
    if not forms:
        return ""
    allowed = " or ".join(filter(None, (", ".join(forms[:-1]), forms[-1])))
    return f"This must be {allowed}.{_guess(given, words)}"


def _annotation(model: type[BaseModel], location: Location, body: object) -> Any:
    """The type of the value at `location`, or of the scalar above it that was taken for an object."""
    annotation: Any = model
    for step in location:
        if isinstance(body, dict):
            body = body.get(step, body)
        elif isinstance(body, list):
            body = body[step] if isinstance(step, int) and step < len(body) else body
        else:
            break
        annotation = _step(annotation, step)
    return annotation


def _step(annotation: Any, step: int | str) -> Any:
    """One step inside; the steps by which pydantic tells a union's members apart lead nowhere."""
    members = list(_members(annotation))
    for member in members:
        if get_origin(member) is dict:  # its keys are the caller's words, whatever they say
            return get_args(member)[1]
    for _, kinds in TAGGED.values():
        if kinds.get(str(step)) in members:
            return kinds[str(step)]
    for member in members:
        if isinstance(step, int) and get_origin(member) in LISTS:
            return get_args(member)[0]
        if _is_model(member) and step in member.model_fields:
            field = member.model_fields[str(step)]
            # What stands for an object, such as a bare word, is said by the validator that reads it.
            inputs = (each.json_schema_input_type for each in field.metadata if isinstance(each, BeforeValidator))
            return next((each for each in inputs if each is not PydanticUndefined), field.annotation)
    return annotation


def _members(annotation: Any) -> Iterator[Any]:
    """The members of a union, however deep."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, UnionType}:
        for part in get_args(annotation):
            yield from _members(part)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def allowed_fields(model: type[BaseModel], location: Location, body: object) -> tuple[str, ...]:
    """The fields of the object at `location` inside `model`, of which `body` should be one."""
    return tuple(dict.fromkeys(_fields(_members(_annotation(model, location, body)))))


def _fields(members: Iterable[Any]) -> Iterator[str]:
    for member in members:
        if _is_model(member):
            yield from member.model_fields


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
