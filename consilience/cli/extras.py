"""Blocks that import what only some installations have."""

from collections.abc import Iterator
from contextlib import contextmanager

from consilience.errors import MissingExtra


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
