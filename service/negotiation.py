"""In which form a document is answered: the one that the query names, else the first that the client accepts."""

from collections.abc import Mapping
from typing import TypeVar

from fastapi import Query

FORMAT = Query(alias="format", description="What the answer is written in; without it, what `Accept` names first.")
#: Answers differ by who asks and by what it accepts.
HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Accept"}

Form = TypeVar("Form", bound=str)


def negotiate(accept: str | None, forms: Mapping[str, Form]) -> Form:
    """The first of the media types that a client accepts and that there is; the first of all where it accepts anything."""
    for word in (accept or "").split(","):
        if (form := forms.get(word.partition(";")[0].strip().lower())) is not None:
            return form
    return next(iter(forms.values()))
