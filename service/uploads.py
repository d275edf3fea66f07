"""Files of a request, on disk while the request lasts."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from starlette.requests import Request

from consilience.errors import UnsupportedFormat
from consilience.formats.columns import load_column
from consilience.formats.files import MEDIA_TYPES, UNNAMED_MEDIA_TYPE
from service.bodies import Bounds, media_type_of, receive
from service.deps import Service
from service.forms import Shape, receive_form

MULTIPART = "multipart/form-data"
JSON = "application/json"


@dataclass(frozen=True)
class Upload:
    """What a request brought: files by part name (a raw body is `file`), and the text of the other parts."""

    files: Mapping[str, tuple[Path, str | None]]
    """Path and media type."""
    columns: Mapping[str, Path] = field(default_factory=dict)
    fields: Mapping[str, bytes] = field(default_factory=dict)

    def column(self, name: str) -> tuple[str, ...] | None:
        """The strings of a column; None where it did not come. Errors as in `load_column`."""
        return load_column(self.columns[name], name) if name in self.columns else None


@asynccontextmanager
async def receive_files(
    request: Request,
    service: Service,
    files: frozenset[str],
    columns: frozenset[str],
    fields: frozenset[str],
    *,
    optional: frozenset[str] = frozenset(),
) -> AsyncIterator[Upload]:
    """The files of a multipart body; whatever happens, nothing of them is left afterwards."""
    settings, blobs = service.settings, service.stores.blobs
    async with contextmanager_in_threadpool(ExitStack()) as stack:
        parts = await receive_form(
            request,
            Shape(files, columns, fields, settings.column_limit_bytes, optional),
            lambda: stack.enter_context(blobs.incoming()),
            await _bounds(service, settings.upload_limit_bytes),
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
    request: Request, service: Service, media_types: Collection[str] = MEDIA_TYPES
) -> AsyncIterator[Upload]:
    """The body itself as the one file, of one of these types; gone afterwards."""
    settings, media_type = service.settings, media_type_of(request)
    if media_type not in (None, UNNAMED_MEDIA_TYPE, *media_types):
        allowed = [*media_types, MULTIPART]
        raise UnsupportedFormat(
            f"A body of type {media_type} is not read here; allowed: {', '.join(allowed)}.",
            value=media_type,
            limit=allowed,
            hint=f"Name the file's type, or {UNNAMED_MEDIA_TYPE} to have it told by its bytes.",
        )
    limit = settings.inline_limit_bytes if media_type == JSON else settings.upload_limit_bytes
    async with contextmanager_in_threadpool(service.stores.blobs.incoming()) as file:
        await receive(request, file.write, await _bounds(service, limit))
        yield Upload(files={"file": (file.path, media_type)})


async def _bounds(service: Service, limit: int) -> Bounds:
    """At most `limit` bytes, and none that the owner's quota cannot hold.

    What is kept has at least half the bytes of its file, since float64 becomes float32; only text shrinks further, and
    its limits are small. What the file really holds is known from its head, once it is there.
    """
    settings, left = service.settings, await run_in_threadpool(service.stores.embeddings.quota_left)
    text = settings.inline_limit_bytes + 2 * settings.column_limit_bytes
    if left is None or limit <= 2 * left + text:
        return Bounds(limit, settings.upload_idle_limit_s)
    return Bounds(2 * left + text, settings.upload_idle_limit_s, quota_left=left)
