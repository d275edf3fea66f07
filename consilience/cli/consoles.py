"""Where output goes: results to standard output, everything else to standard error."""

import os

from rich.console import Console
from rich.text import Text


class _Results(Console):
    """A console whose reader may leave, as `head` does: what is left is not said, and the command ends as it would have."""

    def on_broken_pipe(self) -> None:
        """Say no more: a reader that has left changes no verdict, and files are still to be written."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def results() -> Console:
    """For what was asked for."""
    return _Results()


def emit(text: str) -> None:
    """What was asked for, as it is: no line of it is broken."""
    results().out(text, highlight=False)


def remarks() -> Console:
    """For progress, warnings and errors."""
    return Console(stderr=True)


def warn(message: str) -> None:
    """One warning."""
    remarks().print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


def complain(message: str) -> None:
    """One error."""
    remarks().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
