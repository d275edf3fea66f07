"""Values as errors quote them back: short, whatever they are."""

from reprlib import Repr

#: Characters of an offending value that an error quotes back.
QUOTED_LENGTH = 200
#: Containers are abridged while they are written out: hostile ones are a thousand levels deep, or a million long.
_ABRIDGED = Repr()
_ABRIDGED.maxlevel = 4
_ABRIDGED.maxlist = _ABRIDGED.maxtuple = _ABRIDGED.maxdict = 50
_ABRIDGED.maxstring = _ABRIDGED.maxother = _ABRIDGED.maxlong = QUOTED_LENGTH


def quote(value: object) -> str:
    """Return any value as text of at most 200 characters."""
    text = _ABRIDGED.repr(value) if isinstance(value, list | tuple | dict) else str(value)
    return text[:QUOTED_LENGTH]
