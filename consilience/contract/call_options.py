"""Options as keyword arguments of a call in Python: their types, and the contract's model that they make."""

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Literal, TypeVar

from consilience.contract.alignments import IntervalChoice, Layers, NullChoice, NullWord, Preparation, Profile
from consilience.contract.base import Request
from consilience.contract.maps import MapChoice, MapKind
from consilience.contract.metric import Metric
from consilience.contract.pointers import describe_unknown
from consilience.contract.search import Approximate, Estimate, ExactBuilder
from consilience.contract.upgrades import Thresholds
from consilience.errors import InvalidRequest

#: A contract object as a mapping, such as a dict read from JSON.
Fields = Mapping[str, object]
MetricArgument = str | Fields | Metric
MetricsArgument = MetricArgument | Sequence[MetricArgument]
LayersArgument = str | Sequence[str] | Mapping[str, str | Sequence[str]] | Layers
PreparationArgument = Profile | Fields | Preparation
NullArgument = NullWord | Fields | NullChoice
IntervalArgument = Fields | IntervalChoice | None
EstimateArgument = Literal["all"] | Fields | Estimate
BuilderArgument = ExactBuilder | Fields | Approximate
GalleryArgument = Literal["auto"] | Sequence[int] | None
MapArgument = MapKind | Fields | MapChoice
MapsArgument = MapArgument | Sequence[MapArgument]
ThresholdsArgument = Fields | Thresholds

DEFAULT_INTERVAL = IntervalChoice()
DEFAULT_THRESHOLDS = Thresholds()

Options = TypeVar("Options", bound=Request)


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
    pydantic.ValidationError
        A value that is not allowed.
    """
    parameters = signature(call).parameters
    unknown = arguments["unknown"]
    assert isinstance(unknown, dict)  # noqa: S101 - `**unknown` of the call
    given = {
        name: value
        for name, value in arguments.items()
        if name in kind.model_fields and name in parameters and value is not parameters[name].default
    } | unknown
    for name in unknown.keys() - kind.model_fields.keys():
        allowed = [each.name for each in parameters.values() if each.kind is Parameter.KEYWORD_ONLY]
        raise InvalidOption(describe_unknown("option", name, allowed), value=name)
    if options is None:
        return kind.model_validate(given)
    if given:
        name = next(iter(given))
        raise InvalidOption(
            f"The option {name!r} was given beside `options`, which holds all options.",
            value=name,
            hint=f"Set `{name}` in `options`, or give every option as a keyword argument.",
        )
    return options
