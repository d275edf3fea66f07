"""Libraries that only some models need."""

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


def versions(*distributions: str) -> dict[str, str]:
    """The versions of installed distributions."""
    return {name: version(name) for name in distributions}
