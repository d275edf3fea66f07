"""What an examination of the stores finds."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    severity: Literal["error", "warning"]
    """`error`: something is lost or wrong. `warning`: nothing is, but somebody has not done their work."""
    kind: str
    """A stable word for programs."""
    subject: str
    """The id, digest, path or table that it is about."""
    detail: str
