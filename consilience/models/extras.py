"""Libraries that only some models need."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

from consilience.errors import MissingExtra


def require(extra: str, what: str, *modules: str) -> None:
    """Make sure that modules can be imported; MissingExtra says what to install."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtra(
            f"{what} needs {' and '.join(missing)}, not installed here.",
            value=missing[0],
            hint=f"Run: pip install 'consilience[{extra}]'",
        )


@contextmanager
def loading(what: str) -> Iterator[None]:
    """A library that is there and cannot be imported is as good as missing: MissingExtra says which, and why."""
    try:
        yield
    except ImportError as error:
        said = str(error).strip().partition("\n")[0].rstrip(".")
        raise MissingExtra(
            f"{what} needs a library that cannot be loaded here: {said}.",
            value=error.name or what,
            hint="Its installation is damaged or incomplete: the operator has to install it again.",
        ) from error


def versions(*distributions: str) -> dict[str, str]:
    """The versions of installed distributions."""
    return {name: version(name) for name in distributions}
