"""A file with JSON beside it, as one multipart form: still a stream of known length."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from consilience.client.exchange import Body
from consilience.errors import InvalidRequest

CHUNK_BYTES = 1 << 20
#: One string or integer for each row; an array of them is taken too.
Labels = Sequence[str | int]


@dataclass(frozen=True)
class FormBody:
    """A file, and JSON parts before it.

    Parameters
    ----------
    file : Body
    parts : mapping of str to bytes
        JSON by the part's name.
    name : str
        That of the file's part.
    """

    file: Body
    parts: Mapping[str, bytes]
    name: str = "file"
    #: Random, so that no file holds it.
    boundary: str = field(default_factory=lambda: uuid4().hex)

    @property
    def media_type(self) -> str:
        """With the boundary."""
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.file.size + sum(map(len, self._before())) + len(self._end())

    def chunks(self) -> Iterator[bytes]:
        """The form's bytes."""
        for piece in self._before():
            for start in range(0, len(piece), CHUNK_BYTES):
                yield piece[start : start + CHUNK_BYTES]
        yield from self.file.chunks()
        yield self._end()

    def _before(self) -> list[bytes]:
        """All that comes before the file's own bytes."""
        pieces = []
        for name, data in self.parts.items():
            pieces += [self._head(f'name="{name}"', "application/json"), data, b"\r\n"]
        return [*pieces, self._head(f'name="{self.name}"; filename="{self.name}"', self.file.media_type)]

    def _head(self, disposition: str, media_type: str) -> bytes:
        lines = f"--{self.boundary}", f"Content-Disposition: form-data; {disposition}", f"Content-Type: {media_type}"
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _end(self) -> bytes:
        return f"\r\n--{self.boundary}--\r\n".encode()


def column_json(labels: Any, name: str) -> bytes:
    """The labels as JSON; what they may be is the service's to say. Raises InvalidRequest for what JSON cannot hold."""
    if isinstance(labels, str | bytes):
        raise InvalidRequest(
            f"`{name}` is one string.", value=labels, pointer=f"/{name}", hint="Give one for each row."
        )
    try:
        values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
        return json.dumps(values, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"`{name}` cannot be sent: {error}.", hint="Give one string or integer for each row.", pointer=f"/{name}"
        ) from None
