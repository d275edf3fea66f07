"""Errors at the terminal: messages that name options, and exit statuses."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from typer import BadParameter
from typer.core import TyperGroup

from consilience.contract.pointers import to_sentence
from consilience.errors import (
    ConsilienceError,
    JobError,
    MissingExtra,
    ServiceError,
    StartupError,
    TooManyRequests,
    WaitTimedOut,
)
from consilience.quoting import quote

#: Names on the command line of fields of the contract; a field of SAME_NAME_FIELDS is an option of the same name.
OPTION_NAMES = {
    "metrics": "--metric",
    "preparation": "--profile",
    "method": "--null",
    "memory_budget_bytes": "--memory-budget",
    "map": "--kind",
    "maps": "--map",
    "trends": "--trend",
    "factors": "--factor",
    "differences": "--difference",
    "model": "MODEL",
    "dataset": "DATASET",
    "name": "name",
}
_SCORING_FIELDS = {
    "aggregate",
    "builder",
    "correction",
    "estimate",
    "gallery_sizes",
    "layers",
    "pairing",
    "permutations",
    "seed",
}
_REPORT_FIELDS = {"adapt", "k", "keep", "level", "max_queries", "test_share", "umap", "worst"}
_EXTRACTION_FIELDS = {"max_length", "pooling", "view"}
SAME_NAME_FIELDS = _SCORING_FIELDS | _REPORT_FIELDS | _EXTRACTION_FIELDS
#: Fields that only contain others and have no option of their own.
_CONTAINER_FIELDS = ("null", "thresholds")


class CommandGroup(TyperGroup):
    """Group of commands whose error messages quote the rejected value."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except BadParameter as error:
            cause: Any = error.__cause__
            if hasattr(cause, "errors"):  # pydantic's, which typer quotes without the value
                fault = cause.errors()[0]
                error.message = _with_value(to_sentence(fault["msg"]), quote(fault["input"]))
            raise


def describe_error(error: ConsilienceError) -> list[str]:
    """Return the error's message with the rejected value, then a message for each further error.

    A note of an error from a service may begin with the JSON pointer that the error refers to; that pointer becomes the start
    of the first message.
    """
    notes = [note if note.startswith("/") else f"/{note}" for note in getattr(error, "__notes__", ())]
    located = next((note for note in notes if note.endswith(f": {error.detail}")), None)
    message = name_option(str(error) if located is None else located + str(error).removeprefix(error.detail))
    first = message if error.value is None else _with_value(message, error.value)
    return [first, *(name_option(note) for note in notes if note != located)]


def name_option(message: str) -> str:
    """Replace a JSON pointer at the start of a message by its option.

    Example: `/null/permutations: ...` becomes `--permutations: ...`.
    """
    match = re.match(r"(/[a-z0-9_/]+): (Input should )?", message)
    if match is None:
        return message
    return f"{_option(match[1]) or match[1]}{' must ' if match[2] else ': '}{message[match.end() :]}"


def _option(pointer: str) -> str | None:
    parts = [part for part in pointer.split("/") if part and not part.isdecimal()]
    if len(parts) > 1 and parts[0] in _CONTAINER_FIELDS:
        del parts[0]
    field = parts[0]
    option = OPTION_NAMES.get(field) or (f"--{field.replace('_', '-')}" if field in SAME_NAME_FIELDS else None)
    return option and " ".join((option, *(f"({part})" for part in parts[1:])))


def _with_value(message: str, value: str) -> str:
    """Append the value, unless the message contains it as separate words."""
    words = value.split(", ") if " " in value else [value]
    contained = (
        all(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message) for word in words) if value else "''" in message
    )
    return message if contained else f"{message} Got {value!r}."


@contextmanager
def require_extra(extra: str, purpose: str, *, has_service: bool = True) -> Iterator[None]:
    """Report a module that the block cannot import, with the extra of the package to install.

    Parameters
    ----------
    has_service
        Whether a service can do the work instead.

    Raises
    ------
    MissingExtra
    """
    try:
        yield
    except ModuleNotFoundError as error:
        alternative = ", or use a service with --server" if has_service else ""
        raise MissingExtra(
            f"{purpose} needs the package {error.name}.",
            value=error.name,
            hint=f"Run: pip install 'consilience[{extra}]'{alternative}.",
        ) from error


class ExitStatus(IntEnum):
    """Exit statuses, the same for every command."""

    DONE = 0
    BELOW_THRESHOLD = 1
    BAD_INPUT = 2
    UNREACHABLE = 3
    JOB_FAILED = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


#: Exit status of each class of errors; the first class that matches decides.
STATUS_OF_ERROR: tuple[tuple[type[ConsilienceError], ExitStatus], ...] = (
    (WaitTimedOut, ExitStatus.TIMED_OUT),
    (MissingExtra, ExitStatus.BAD_INPUT),
    (StartupError, ExitStatus.BAD_INPUT),
    (ServiceError, ExitStatus.UNREACHABLE),
    (TooManyRequests, ExitStatus.UNREACHABLE),
    (JobError, ExitStatus.JOB_FAILED),
    (ConsilienceError, ExitStatus.BAD_INPUT),
)


def exit_status(error: ConsilienceError) -> ExitStatus:
    """Return the exit status of an error."""
    return next(status for kind, status in STATUS_OF_ERROR if isinstance(error, kind))
