"""Validation of options and request bodies, and the sentences that explain what is wrong with them.

`explain` turns pydantic's errors into faults: each has a JSON pointer into what the caller wrote, and a sentence that says what
is allowed. The service answers with the faults, and calls in Python raise them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import Parameter, signature
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import PydanticUndefined

from consilience.contract.base import Request
from consilience.contract.maps import MAPS
from consilience.contract.metrics import METRICS
from consilience.contract.pointers import Location, describe_unknown, find_pointer, suggest, to_sentence
from consilience.contract.problems import FieldError
from consilience.errors import InvalidRequest
from consilience.quoting import quote

#: Largest number of faults listed in one problem.
FAULTS_LIMIT = 20
LISTS = {list, tuple}
#: Unions whose members are told apart by one field: the noun for its values, and the members by value.
TAGGED: dict[str, tuple[str, dict[str, type[BaseModel]]]] = {
    "metric": ("metric", {**METRICS}),
    "kind": ("kind of map", {**MAPS}),
}

Options = TypeVar("Options", bound=Request)


class InvalidFields(InvalidRequest):
    """A request with one or more faults, each with its location.

    Attributes
    ----------
    faults : tuple of FieldError
    """

    def __init__(self, faults: Sequence[FieldError], hint: str | None = None) -> None:
        first = faults[0]
        more = f" (and {len(faults) - 1} more, see `errors`)" if len(faults) > 1 else ""
        super().__init__(first.detail + more, value=first.value, hint=hint, pointer=first.pointer)
        self.faults = tuple(faults[:FAULTS_LIMIT])


class InvalidOption(InvalidRequest, TypeError):
    """A keyword argument that the call does not have, or that it has twice; a TypeError as Python itself would raise."""


def read_options(
    kind: type[Options], call: Callable[..., object], options: Options | None, arguments: Mapping[str, object]
) -> Options:
    """Make the options of a call from its arguments.

    Parameters
    ----------
    kind : type of the options
    call : callable
        The public function: its signature has the defaults, and the names that an error lists.
    options : the argument `options`, which replaces all keyword arguments
    arguments : mapping
        The other arguments of the call by name, such as its ``locals()``. Those that are no fields of `kind` are ignored,
        those that are the signature's own defaults are left to `kind`. `unknown` holds what the signature does not name.

    Raises
    ------
    InvalidOption
        A name that neither the signature nor `kind` has, or options beside keyword arguments.
    InvalidRequest
        A value that is not allowed.
    """
    parameters = signature(call).parameters
    unknown = arguments["unknown"]
    assert isinstance(unknown, dict)  # noqa: S101 - `**unknown` of the call
    fields = {
        name: value
        for name, value in arguments.items()
        if name in kind.model_fields and name in parameters and value is not parameters[name].default
    } | unknown
    for name in unknown.keys() - kind.model_fields.keys():
        allowed = [each.name for each in parameters.values() if each.kind is Parameter.KEYWORD_ONLY]
        raise InvalidOption(describe_unknown("option", name, allowed), value=name)
    if options is None:
        return validate(kind, fields)
    if fields:
        name = next(iter(fields))
        raise InvalidOption(
            f"The option {name!r} was given beside `options`, which holds all options.",
            value=name,
            hint=f"Set `{name}` in `options`, or give every option as a keyword argument.",
        )
    return options


def validate(kind: type[Options], fields: Mapping[str, object]) -> Options:
    """Make options from their fields.

    Raises
    ------
    InvalidRequest
        A field that does not exist or a value that is not allowed, with its JSON pointer; further faults are notes.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first, *others = explain(error, fields, kind).faults
        invalid = InvalidRequest(_locate(first), value=first.value, pointer=first.pointer)
        for fault in others:
            invalid.add_note(_locate(fault))
        raise invalid from error


def _locate(fault: FieldError) -> str:
    """Start the sentence of a fault with its pointer, unless the fault is of the options as a whole."""
    return f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail


def explain(error: ValidationError, body: object, model: type[BaseModel]) -> InvalidFields:
    """Explain why `body` is not a valid `model`."""
    details = error.errors(include_url=False, include_context=True)
    return InvalidFields(_merge(_fault(detail, body, model) for detail in details if not _is_consequence(detail)))


def _merge(faults: Iterable[FieldError]) -> list[FieldError]:
    """Join the faults of one location: pydantic reports one for each member of a union."""
    merged: dict[str, FieldError] = {}
    for fault in faults:
        known = merged.get(fault.pointer)
        if known is None:
            merged[fault.pointer] = fault
        elif fault.detail not in known.detail:
            merged[fault.pointer] = known.model_copy(update={"detail": f"{known.detail} Or: {fault.detail}"})
    return list(merged.values())


def _is_consequence(detail: Any) -> bool:
    """Return whether a list is reported as too short only because pydantic left out its invalid entries."""
    value = detail["input"]
    return detail["type"] == "too_short" and isinstance(value, list) and len(value) >= detail["ctx"]["min_length"]


def _fault(detail: Any, body: object, model: type[BaseModel]) -> FieldError:
    location = detail["loc"]
    pointer = find_pointer(location, body, missing=detail["type"] == "missing")
    value = None if detail["type"] == "missing" else quote(detail["input"])
    if detail["type"] == "extra_forbidden":
        name, allowed = str(location[-1]), allowed_fields(model, location[:-1], body)
        return FieldError(pointer=pointer, value=name, detail=describe_unknown("field", name, allowed))
    if detail["type"] == "union_tag_invalid":
        word = str(detail["ctx"]["tag"])
        noun, kinds = TAGGED[_find_tag(model, location, body)]
        return FieldError(pointer=pointer, value=word, detail=describe_unknown(noun, word, tuple(kinds)))
    if detail["type"] in {"union_tag_not_found", "model_attributes_type"}:
        tag = _find_tag(model, location, body)
        forms = f"This must be the name of a {TAGGED[tag][0]} or a JSON object with `{tag}` and its options."
        return FieldError(pointer=pointer, value=value, detail=forms)
    if detail["type"] in {"too_short", "too_long"}:
        return FieldError(pointer=pointer, value=value, detail=_describe_length(**detail["ctx"]))
    if detail["type"] in {"literal_error", "model_type", "tuple_type"}:
        forms = _describe_forms(model, location, body, detail["input"])
        return FieldError(pointer=pointer, value=value, detail=forms or to_sentence(detail["msg"]))
    return FieldError(pointer=pointer, value=value, detail=to_sentence(detail["msg"]))


def _find_tag(model: type[BaseModel], location: Location, body: object) -> str:
    """Return the field that tells the members of the union at `location` apart."""
    members = list(_members(_annotation(model, location, body)))
    return next(tag for tag, (_, kinds) in TAGGED.items() if any(kind in members for kind in kinds.values()))


def _describe_length(
    *, actual_length: int | None, min_length: int | None = None, max_length: int | None = None, **_kind: object
) -> str:
    """Say how many entries a list may have; pydantic's message calls it by its Python type."""
    limit = f"at most {max_length}" if min_length is None else f"at least {min_length}"
    entries = "entry" if (max_length or min_length) == 1 else "entries"
    return f"There must be {limit} {entries}, not {'more' if actual_length is None else actual_length}."


def _describe_forms(model: type[BaseModel], location: Location, body: object, value: object) -> str:
    """Say which words, lists or objects are allowed instead of `value`; empty if the annotation does not tell."""
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
    return f"This must be {allowed}.{suggest(value, words)}"


def allowed_fields(model: type[BaseModel], location: Location, body: object) -> tuple[str, ...]:
    """Return the names of the fields that the object at `location` in `body` may have."""
    return tuple(dict.fromkeys(_fields(_members(_annotation(model, location, body)))))


def _fields(members: Iterable[Any]) -> Iterator[str]:
    for member in members:
        if _is_model(member):
            yield from member.model_fields


def _annotation(model: type[BaseModel], location: Location, body: object) -> Any:
    """Return the type of the value at `location`, or of the scalar above it that was read as an object."""
    annotation: Any = model
    for step in location:
        if isinstance(body, Mapping):
            body = body.get(step, body)
        elif isinstance(body, list | tuple):
            body = body[step] if isinstance(step, int) and step < len(body) else body
        else:
            break
        annotation = _step(annotation, step)
    return annotation


def _step(annotation: Any, step: int | str) -> Any:
    """Take one step into a type; the steps by which pydantic names a union's members change nothing."""
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
            # A value that stands for an object, such as a bare name, is declared by the validator that reads it.
            inputs = (each.json_schema_input_type for each in field.metadata if isinstance(each, BeforeValidator))
            return next((each for each in inputs if each is not PydanticUndefined), field.annotation)
    return annotation


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, however deep."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, UnionType}:
        for part in get_args(annotation):
            yield from _members(part)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
