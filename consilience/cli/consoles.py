"""Where output goes: results to standard output, everything else to standard error."""

from rich.console import Console
from rich.text import Text


def results() -> Console:
    """For what was asked for."""
    return Console()


def remarks() -> Console:
    """For progress, warnings and errors."""
    return Console(stderr=True)


def warn(message: str) -> None:
    """One warning."""
    remarks().print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


def complain(message: str) -> None:
    """One error."""
    remarks().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
