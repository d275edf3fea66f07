"""What the exit status of the command says."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from typer import BadParameter
from typer.core import TyperGroup

from consilience.contract.pointers import sentence
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

#: Words of the contract that are other words here; every other one is an option of the same name.
WORDS = {
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
_OF_SCORES = {"aggregate", "builder", "correction", "draws", "estimate", "gallery_sizes", "layers", "pairing", "seed"}
_OF_REPORTS = {"adapt", "k", "keep", "level", "queries", "sample", "test_share", "umap", "worst"}
_OF_SETS = {"max_length", "pooling", "view"}
SAME = _OF_SCORES | _OF_REPORTS | _OF_SETS
#: What only holds others.
_HOLDERS = ("null", "thresholds")


class Commands(TyperGroup):
    """Commands whose refusals quote the value that they refuse."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except BadParameter as error:
            cause: Any = error.__cause__
            if hasattr(cause, "errors"):  # pydantic's, which typer quotes without the value
                fault = cause.errors()[0]
                error.message = _with_value(sentence(fault["msg"]), quote(fault["input"]))
            raise


def explain(error: ConsilienceError) -> list[str]:
    """The error's sentences with the value that they are about, then what else is wrong.

    A service says in a note where the fault is that it tells.
    """
    notes = [note if note.startswith("/") else f"/{note}" for note in getattr(error, "__notes__", ())]
    place = next((note for note in notes if note.endswith(f": {error.detail}")), None)
    told = name_option(str(error) if place is None else place + str(error).removeprefix(error.detail))
    first = told if error.value is None else _with_value(told, error.value)
    return [first, *(name_option(note) for note in notes if note != place)]


def name_option(told: str) -> str:
    """With the option in place of the pointer that such a sentence may begin with: `--draws: ...` for `/null/draws: ...`."""
    found = re.match(r"(/[a-z0-9_/]+): ", told)
    return told if found is None else f"{_option(found[1]) or found[1]}: {told[found.end() :]}"


def _option(pointer: str) -> str | None:
    parts = [part for part in pointer.split("/") if part and not part.isdecimal()]
    if len(parts) > 1 and parts[0] in _HOLDERS:
        del parts[0]
    word = parts[0]
    option = WORDS.get(word) or (f"--{word.replace('_', '-')}" if word in SAME else None)
    return option and " ".join((option, *(f"({part})" for part in parts[1:])))


def _with_value(told: str, value: str) -> str:
    """The value after the sentence, unless it is there as a word of its own: a 0 is none of 20."""
    there = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", told) if value else "''" in told
    return told if there else f"{told} (It is {value!r}.)"


@contextmanager
def packages_of(extra: str, purpose: str, *, by_service: bool = True) -> Iterator[None]:
    """A block that needs an extra of the package: where one of its modules is missing, the error says what to install.

    Parameters
    ----------
    by_service
        Whether a service can do it instead.

    Raises
    ------
    MissingExtra
    """
    try:
        yield
    except ModuleNotFoundError as error:
        instead = ", or let a service do it with --server" if by_service else ""
        raise MissingExtra(
            f"{purpose} needs {error.name}.",
            value=error.name,
            hint=f"Run: pip install 'consilience[{extra}]'{instead}.",
        ) from error


class ExitStatus(IntEnum):
    """The statuses, the same for every command."""

    DONE = 0
    BELOW_BAR = 1
    BAD_INPUT = 2
    UNREACHABLE = 3
    JOB_FAILED = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


#: The first class that an error belongs to decides; everything else is something that the caller can mend.
BY_KIND: tuple[tuple[type[ConsilienceError], ExitStatus], ...] = (
    (WaitTimedOut, ExitStatus.TIMED_OUT),
    (MissingExtra, ExitStatus.BAD_INPUT),
    (StartupError, ExitStatus.BAD_INPUT),
    (ServiceError, ExitStatus.UNREACHABLE),
    (TooManyRequests, ExitStatus.UNREACHABLE),
    (JobError, ExitStatus.JOB_FAILED),
    (ConsilienceError, ExitStatus.BAD_INPUT),
)


def status_of(error: ConsilienceError) -> ExitStatus:
    """The exit status of an error."""
    return next(status for kind, status in BY_KIND if isinstance(error, kind))
