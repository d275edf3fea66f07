"""The built-in datasets by name: `stdlib-docs`, `scenes`, `scenes:n=1000,seed=7`."""

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from consilience.contract.datasets import ViewKind
from consilience.datasets import stdlib_docs
from consilience.datasets.scenes import opening as scenes
from consilience.datasets.views import OpenDataset
from consilience.errors import InvalidRequest, NotFound

#: The options of each, with what they are where nobody says, and what they may be at most (and at least 0 or 1).
OPTIONS: Mapping[str, Mapping[str, tuple[int, range]]] = {
    stdlib_docs.NAME: {},
    scenes.NAME: {
        "n": (scenes.N_DEFAULT, range(1, scenes.N_MAX + 1)),
        "seed": (0, range(2**32)),
    },
}
_FORM = re.compile(r"(?P<name>[a-z-]+)(:(?P<options>.*))?")
_OPTION = re.compile(r"([a-z]+)=([0-9]{1,10})")
#: +1 whenever the same name would give other items.
GENERATION = 1


@dataclass(frozen=True)
class Builtin:
    """A built-in dataset and its options, all of them."""

    name: str
    options: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """The name that gives it, its options in their order."""
        words = ",".join(f"{option}={value}" for option, value in self.options.items())
        return f"{self.name}:{words}" if words else self.name

    @property
    def version(self) -> str:
        """What else its items depend on."""
        python = platform.python_version() if self.name == stdlib_docs.NAME else "any"
        return f"generation {GENERATION}, Python {python}"

    @property
    def is_exact(self) -> bool:
        """Whether `n` is known without reading anything, or a guess."""
        return self.name == scenes.NAME

    @property
    def n(self) -> int:
        """How many items there are, or about how many."""
        return self.options["n"] if self.name == scenes.NAME else stdlib_docs.N_ABOUT

    @property
    def views(self) -> Mapping[str, ViewKind]:
        """Name and kind of each view."""
        return scenes.VIEWS if self.name == scenes.NAME else stdlib_docs.VIEWS

    def open(self) -> OpenDataset:
        """The items."""
        if self.name == scenes.NAME:
            return scenes.open_scenes(**self.options)
        return stdlib_docs.open_stdlib_docs()


def is_builtin(name: str) -> bool:
    """Whether this names a built-in dataset, with options or without."""
    return name.partition(":")[0] in OPTIONS


def parse_builtin(text: str) -> Builtin:
    """A built-in dataset by its name and, behind a colon, options.

    >>> str(parse_builtin("scenes:seed=7"))
    'scenes:n=512,seed=7'

    Raises
    ------
    NotFound
        There is none of this name.
    InvalidRequest
        It has no such option, or not with this value.
    """
    found = _FORM.fullmatch(text)
    if not found or found["name"] not in OPTIONS:
        raise NotFound(
            "There is no such built-in dataset.",
            value=text,
            limit=list(OPTIONS),
            hint=f"There are: {', '.join(OPTIONS)}.",
        )
    given = _parse_options(found["name"], found["options"])
    return Builtin(
        found["name"], {name: given.get(name, default) for name, (default, _) in OPTIONS[found["name"]].items()}
    )


def open_dataset(name: str) -> OpenDataset:
    """A built-in dataset by its name. Errors as in `parse_builtin`."""
    return parse_builtin(name).open()


def _parse_options(name: str, text: str | None) -> dict[str, int]:
    known = OPTIONS[name]
    given = {}
    for word in text.split(",") if text is not None else ():
        found = _OPTION.fullmatch(word)
        if not found or found[1] not in known:
            options = ", ".join(known) or "none"
            raise InvalidRequest(
                f"{name} has no option {word!r}; its options: {options}.", value=word, limit=list(known)
            )
        allowed = known[found[1]][1]
        if int(found[2]) not in allowed:
            raise InvalidRequest(
                f"The option {found[1]} of {name} goes from {allowed.start} to {allowed.stop - 1}.",
                value=int(found[2]),
                limit=[allowed.start, allowed.stop - 1],
            )
        given[found[1]] = int(found[2])
    return given
