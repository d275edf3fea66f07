"""Parser of multipart forms that writes files directly into the blob store.

Starlette's parser writes files into the system's temporary folder, from which they would be copied a second time. In many
containers, that folder is in memory.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from consilience.errors import InvalidRequest, TooLarge, UnsupportedFormat
from consilience.formats.columns import load_column
from consilience.formats.files import MEDIA_TYPES, UNNAMED_MEDIA_TYPE
from consilience.stores.blobs import IncomingFile
from service.deps import ServiceContext
from service.request_body import BodyLimits, clean_media_type, media_type_of, receive

#: Maximum size in bytes of a part that is not a file.
FIELD_LIMIT_BYTES = 65_536
PARTS_LIMIT = 8

OpenIncoming = Callable[[], IncomingFile]


@dataclass(frozen=True)
class FormShape:
    """Parts that a form can have, by name. Any other part is refused."""

    files: frozenset[str]
    """Required parts, written to disk."""
    columns: frozenset[str]
    """Optional JSON lists with one entry for each row, written to disk because they can be large."""
    fields: frozenset[str]
    """Optional short parts, held in memory."""
    column_limit_bytes: int
    optional: frozenset[str] = frozenset()
    """Files that are not required."""

    @property
    def names(self) -> frozenset[str]:
        """Names of all parts."""
        return self.files | self.columns | self.fields

    def limit_of(self, name: str) -> int | None:
        """Return the maximum size of a part in bytes; None for files, which only the size of the body limits."""
        if name in self.files:
            return None
        return self.column_limit_bytes if name in self.columns else FIELD_LIMIT_BYTES


@dataclass
class FormPart:
    """Part of a form: a file on disk or a text in memory."""

    name: str
    media_type: str | None
    limit: int | None
    file: IncomingFile | None = None
    text: bytearray = field(default_factory=bytearray)
    size: int = 0

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        self.size += len(data)
        if self.limit is not None and self.size > self.limit:
            raise TooLarge(
                f"The part `{self.name}` has more than {self.limit} bytes, which is the maximum.",
                value=f"more than {self.limit} bytes",
                limit=self.limit,
                pointer=f"/{self.name}",
            )
        if self.file is not None:
            self.file.write(data)
        else:
            self.text += data


class MultipartForm:
    """Form that is parsed while it arrives.

    Parameters
    ----------
    boundary : bytes
        Boundary in the header Content-Type.
    shape : Shape
        Parts that the form can have.
    open_file : callable
        Function that opens a temporary file for the next part.
    """

    def __init__(self, boundary: bytes, shape: FormShape, open_file: OpenIncoming) -> None:
        self.parts: dict[str, FormPart] = {}
        self.complete = False
        self._shape, self._open_file = shape, open_file
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""
        self._current: FormPart | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._take_name,
                "on_header_value": self._take_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open_part,
                "on_part_data": self._take_data,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest(f"The multipart body is not valid: {error}.") from None

    def _begin_part(self) -> None:
        self._headers = {}

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _open_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name not in self._shape.names:
            allowed = ", ".join(sorted(self._shape.names))
            raise InvalidRequest(f"The form has an unknown part {name[:100]!r}; allowed: {allowed}.", value=name)
        if name in self.parts:
            raise InvalidRequest(
                f"The form has two parts {name!r}; each part can occur once.", value=name, pointer=f"/{name}"
            )
        media_type = clean_media_type(self._headers.get(b"content-type", b"").decode("latin-1"))
        file = None if name in self._shape.fields else self._open_file()
        self._current = self.parts[name] = FormPart(name, media_type, self._shape.limit_of(name), file)

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        assert self._current is not None  # noqa: S101 - the parser calls in order
        self._current.write(data[start:end])

    def _end(self) -> None:
        self.complete = True


async def receive_form(
    request: Request, shape: FormShape, open_file: OpenIncoming, limits: BodyLimits
) -> Mapping[str, FormPart]:
    """Receive a multipart body and return its parts, with files on disk.

    Raises
    ------
    InvalidRequest
        The body is not valid or incomplete, has an unknown part, or lacks a file.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    if not options.get(b"boundary"):
        raise InvalidRequest("The header Content-Type has no boundary.", value=request.headers.get("content-type"))
    try:
        form = MultipartForm(options[b"boundary"], shape, open_file)
    except FormParserError as error:
        raise InvalidRequest(f"The boundary of the form is not valid: {error}.") from None
    await receive(request, form.feed, limits)
    if not form.complete:
        raise InvalidRequest("The multipart body ends before its closing boundary.")
    for name in sorted(shape.files - shape.optional - form.parts.keys()):
        raise InvalidRequest(
            f"The form has no part `{name}`, which is required.", pointer=f"/{name}", hint="Send it as a file."
        )
    return form.parts


MULTIPART = "multipart/form-data"
JSON = "application/json"


@dataclass(frozen=True)
class Upload:
    """Received files by part name, and the texts of the other parts. A raw body is the file `file`."""

    files: Mapping[str, tuple[Path, str | None]]
    """Path and media type of each file."""
    columns: Mapping[str, Path] = field(default_factory=dict)
    fields: Mapping[str, bytes] = field(default_factory=dict)

    def column(self, name: str) -> tuple[str, ...] | None:
        """Read the strings of a column, or return None if the request has no such part. Errors as in `load_column`."""
        return load_column(self.columns[name], name) if name in self.columns else None


@asynccontextmanager
async def receive_files(
    request: Request,
    service: ServiceContext,
    files: frozenset[str],
    columns: frozenset[str],
    fields: frozenset[str],
    *,
    optional: frozenset[str] = frozenset(),
) -> AsyncIterator[Upload]:
    """Receive the files of a multipart body; they are deleted when the context ends."""
    settings, blobs = service.settings, service.stores.blobs
    async with contextmanager_in_threadpool(ExitStack()) as stack:
        parts = await receive_form(
            request,
            FormShape(files, columns, fields, settings.column_limit_bytes, optional),
            lambda: stack.enter_context(blobs.incoming()),
            await _body_limits(service, settings.upload_limit_bytes),
        )
        yield Upload(
            files={
                name: (part.file.path, part.media_type) for name, part in parts.items() if part.file and name in files
            },
            columns={name: part.file.path for name, part in parts.items() if part.file and name in columns},
            fields={name: bytes(part.text) for name, part in parts.items() if not part.file},
        )


@asynccontextmanager
async def receive_file(
    request: Request, service: ServiceContext, media_types: Collection[str] = MEDIA_TYPES
) -> AsyncIterator[Upload]:
    """Receive the body as one file of one of these types; it is deleted when the context ends."""
    settings, media_type = service.settings, media_type_of(request)
    if media_type not in (None, UNNAMED_MEDIA_TYPE, *media_types):
        allowed = [*media_types, MULTIPART]
        raise UnsupportedFormat(
            f"This operation does not accept a body of type {media_type}; allowed: {', '.join(allowed)}.",
            value=media_type,
            limit=allowed,
            hint=f"Send the media type of the file, or {UNNAMED_MEDIA_TYPE} to detect it from the content.",
        )
    limit = settings.inline_limit_bytes if media_type == JSON else settings.upload_limit_bytes
    async with contextmanager_in_threadpool(service.stores.blobs.incoming()) as file:
        await receive(request, file.write, await _body_limits(service, limit))
        yield Upload(files={"file": (file.path, media_type)})


async def _body_limits(service: ServiceContext, limit: int) -> BodyLimits:
    """Return limits of `limit` bytes, or fewer if the owner's quota cannot hold them.

    A stored set has at least half the size of its file, because float64 becomes float32. Only text shrinks more, and its
    limits are small. The exact size is checked when the file has arrived.
    """
    settings, left = service.settings, await run_in_threadpool(service.stores.embeddings.quota_left)
    text = settings.inline_limit_bytes + 2 * settings.column_limit_bytes
    if left is None or limit <= 2 * left + text:
        return BodyLimits(limit, settings.upload_idle_limit_s)
    return BodyLimits(2 * left + text, settings.upload_idle_limit_s, quota_left=left)
