"""Options that several commands share: said once, in a dataclass, and unfolded into each command that takes it."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

Command = Callable[..., None]


def unfold(command: Command) -> Command:
    """The command with one option for each field of its parameters that are dataclasses.

    Typer reads the options of a command from its signature, so that is what is written; when the command runs, each
    dataclass is made of what was given. Every field has a default; two options of one name are refused (ValueError).
    """
    declared = signature(command).parameters.values()
    groups = {each.name: group for each in declared if (group := _group(each)) is not None}

    @wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: group(**{each.name: given.pop(each.name) for each in fields(group)}) for name, group in groups.items()
        }
        command(**given, **made)

    unfolded = (option for each in declared for option in _options(each))
    vars(run)["__signature__"] = Signature(list(unfolded))
    return run


def _group(parameter: Parameter) -> type | None:
    kind = parameter.annotation
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def _options(parameter: Parameter) -> Iterator[Parameter]:
    if (group := _group(parameter)) is None:
        yield parameter
        return
    kinds = get_type_hints(group, include_extras=True)
    for each in fields(group):
        yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=kinds[each.name])
