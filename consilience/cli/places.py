"""Places for files that a command writes."""

import os
from pathlib import Path

from consilience.errors import InputError


def require_place(out: Path | None) -> Path | None:
    """The file's path; InputError where it or its folders cannot be written, as far as can be told without writing."""
    if out is not None:
        nearest = next(place for place in (out, *out.absolute().parents) if place.exists())
        if nearest != out and not nearest.is_dir():
            raise InputError(f"{out} cannot be written: {nearest} is no folder.", value=out, hint="Name another file.")
        if not os.access(nearest, os.W_OK):
            raise InputError(f"{out} cannot be written: {nearest} is read-only.", value=out, hint="Name another file.")
    return out


def make_folders(out: Path) -> Path:
    """The file's path, the folders on the way to it made; InputError where they cannot be."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.", value=out) from error
    return out
