"""Files of ids and groups beside the embeddings."""

from dataclasses import dataclass
from pathlib import Path

from consilience.formats.columns import read_column

Labels = tuple[str, ...] | None
Files = tuple[Path | None, Path | None]


@dataclass(frozen=True)
class Columns:
    """Ids and groups of a and of b, as far as they were given."""

    ids: tuple[Labels, Labels] = (None, None)
    groups: tuple[Labels, Labels] = (None, None)


def read_columns(*, ids: Files, groups: Files) -> Columns:
    """The columns of both sides; errors name the option's column."""
    return Columns(ids=_both(ids, "ids"), groups=_both(groups, "groups"))


def read_optional(file: Path | None, name: str) -> Labels:
    """One column, if there is a file."""
    return None if file is None else read_column(file, name)


def _both(files: Files, name: str) -> tuple[Labels, Labels]:
    return read_optional(files[0], f"{name}_a"), read_optional(files[1], f"{name}_b")
