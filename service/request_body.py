"""Request bodies, read in pieces: nothing here holds more than a megabyte of a file.

FastAPI's own `max_body_size` is not used: over a declared length it answers plain text whatever the route says,
and here every error is a problem document that names the limit and the size.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from consilience.contract.base import METADATA_LIMIT_BYTES, Name
from consilience.contract.validation import explain
from consilience.errors import InvalidRequest, QuotaExceeded, TooLarge, UnsupportedFormat

#: Bytes collected before they go to a thread: one hop a megabyte, not one a packet.
BATCH_BYTES = 2**20

ChunkWriter = Callable[[bytes], object]


def media_type_of(request: Request) -> str | None:
    """The body's media type without its parameters; None where the client gives none."""
    return clean_media_type(request.headers.get("content-type"))


def clean_media_type(value: str | None) -> str | None:
    """`Application/JSON; charset=utf-8` as `application/json`."""
    return value.split(";")[0].strip().lower() or None if value else None


@dataclass(frozen=True)
class BodyLimits:
    """How much a body may hold and how slowly it may come."""

    limit: int
    """Bytes: a larger declared length is refused before anything is read, a larger real one in mid-stream."""
    idle_s: float
    """Seconds that may pass without a byte."""
    min_bytes_per_s: int = 1024
    """Bytes a second, on average once `idle_s` has passed: what comes slower only holds a connection."""
    quota_left: int | None = None
    """What the owner may still keep, where it is this that sets the limit."""

    def timeout(self, elapsed: float, total: int) -> float:
        """Seconds until the next byte must be there, `elapsed` after the start and `total` bytes later."""
        return max(0.0, min(self.idle_s, self.idle_s + total / self.min_bytes_per_s - elapsed))


async def receive(request: Request, sink: ChunkWriter, limits: BodyLimits) -> None:
    """Hand the body to `sink`, in order, in batches, in a thread.

    Raises
    ------
    TooLarge, QuotaExceeded, UnsupportedFormat
        Over the limit; compressed.
    """
    check_encoding(request)
    check_declared_length(request, limits)
    batch, total, started = bytearray(), 0, time.monotonic()
    stream = request.stream()
    while chunk := await _next_chunk(stream, limits.timeout(time.monotonic() - started, total)):
        total += len(chunk)
        if total > limits.limit:
            raise _too_large(f"more than {limits.limit} bytes", limits)
        batch += chunk
        if len(batch) >= BATCH_BYTES:
            await run_in_threadpool(sink, bytes(batch))
            batch.clear()
    if batch:
        await run_in_threadpool(sink, bytes(batch))


async def _next_chunk(stream: AsyncGenerator[bytes, None], timeout_s: float) -> bytes:
    try:
        async with asyncio.timeout(timeout_s):
            return await anext(stream, b"")
    except TimeoutError:
        raise HTTPException(408, "the body came too slowly, or no more of it came") from None


def check_encoding(request: Request) -> None:
    """Compressed bodies are refused: their real size is unknown until they are unpacked."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedFormat(
            "The body is compressed.", value=encoding, hint="Send it as it is, without Content-Encoding."
        )


def check_declared_length(request: Request, limits: BodyLimits) -> None:
    """Refuse by the declared length, before a byte is read."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.limit:
        raise _too_large(f"{int(declared)} bytes", limits)


def _too_large(size: str, limits: BodyLimits) -> TooLarge | QuotaExceeded:
    if limits.quota_left is not None:
        return QuotaExceeded(
            f"The body has {size}; the owner may keep {limits.quota_left} bytes more.",
            value=size,
            limit=limits.quota_left,
            hint="Delete sets that are no longer needed; CONSILIENCE_OWNER_BYTES_LIMIT is the limit.",
        )
    return TooLarge(
        f"The body has {size}; at most {limits.limit} are allowed.",
        value=size,
        limit=limits.limit,
        hint="GET /v1/info lists the limits; float16 halves a file.",
    )


async def receive_bytes(request: Request, limits: BodyLimits) -> bytes:
    """The whole body, where it is small."""
    body = bytearray()
    await receive(request, body.extend, limits)
    return bytes(body)


def parse_json(data: bytes, pointer: str = "") -> object:
    """Strict JSON.

    Raises
    ------
    InvalidRequest
        Not JSON: NaN, infinity, lone surrogates and bad UTF-8 included.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        around = data[max(0, error.pos - 20) : error.pos + 20].decode("utf-8", "replace")
        raise InvalidRequest(
            f"This is not JSON: {error}.",
            value=around,
            hint="JSON has no NaN and no infinity.",
            pointer=pointer,
        ) from None


#: Deeper nesting breaks JSON writers that recurse.
DEPTH_LIMIT = 32


def parse_metadata(text: str | None, pointer: str = "metadata") -> dict[str, Any]:
    """Metadata from its JSON text; none is empty.

    Raises
    ------
    InvalidRequest, TooLarge
    """
    if text is None:
        return {}
    value = parse_json(text.encode("utf-8", "surrogatepass"), pointer)
    if not isinstance(value, dict):
        raise InvalidRequest("Metadata is a JSON object.", value=text, pointer=pointer)
    check_metadata(value, pointer)
    return value


def check_metadata(metadata: dict[str, Any], pointer: str) -> None:
    """Refuse what cannot be stored or is too much."""
    for depth, item in walk(metadata):
        if depth > DEPTH_LIMIT:
            raise InvalidRequest("Metadata is nested too deeply.", limit=DEPTH_LIMIT, pointer=pointer)
        if isinstance(item, str) and "\0" in item:
            raise InvalidRequest("Metadata holds a NUL character.", value=repr(item), pointer=pointer)
    check_size("Metadata", orjson.dumps(metadata), METADATA_LIMIT_BYTES, pointer)


def check_size(words: str, text: bytes, limit: int, pointer: str) -> None:
    """Refuse JSON that is longer than what these words name may be."""
    if len(text) > limit:
        raise TooLarge(
            f"{words} has {len(text)} bytes; at most {limit} are allowed.",
            value=f"{len(text)} bytes",
            limit=limit,
            pointer=pointer,
        )


def walk(value: object) -> Iterator[tuple[int, object]]:
    """Every key and value with its depth, breadth first: no recursion, so that depth cannot hurt."""
    level, depth = [value], 1
    while level:
        for item in level:
            yield depth, item
            if isinstance(item, dict):
                yield from ((depth, key) for key in item)
        level = [inner for item in level for inner in _members(item)]
        depth += 1


def _members(item: object) -> list[object]:
    if isinstance(item, dict):
        return list(item.values())
    return item if isinstance(item, list) else []


#: Values in a request besides its vectors; far more than the largest sensible one has.
VALUES_LIMIT = 10_000

_Model = TypeVar("_Model", bound=BaseModel)


def read_model(model: type[_Model], body: object) -> _Model:
    """A request's model from its parsed JSON.

    Raises
    ------
    InvalidFields
        With each fault's JSON pointer.
    InvalidRequest
        Nested too deeply, or too many values: pydantic would report each of a million faults.
    """
    for count, (depth, _) in enumerate(walk(body)):
        if depth > DEPTH_LIMIT or count > VALUES_LIMIT:
            raise InvalidRequest(
                f"A request has at most {VALUES_LIMIT} values besides its vectors, {DEPTH_LIMIT} levels deep.",
                limit=VALUES_LIMIT if count > VALUES_LIMIT else DEPTH_LIMIT,
            )
    try:
        request = model.model_validate(body)
    except ValidationError as error:
        raise explain(error, body, model) from None
    check_metadata(getattr(request, "metadata", {}), "/metadata")
    return request


NAMES: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(frozen=True)
class ResourceLabel:
    """A set's name and metadata."""

    name: str
    metadata: dict[str, Any]


def read_resource_label(fields: Mapping[str, bytes], default: ResourceLabel) -> ResourceLabel:
    """The label that a form's parts give; what they leave out is that of `default`."""
    texts = {name: value.decode("utf-8", "replace") for name, value in fields.items()}
    name = _parse_name(texts["name"]) if "name" in texts else default.name
    metadata = parse_metadata(texts["metadata"], "/metadata") if "metadata" in texts else default.metadata
    return ResourceLabel(name, metadata)


def _parse_name(text: str) -> str:
    """Plain text, or a JSON string: a name itself cannot begin with a quote."""
    value = parse_json(text.encode(), "/name") if text.startswith('"') else text
    try:
        return NAMES.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]["msg"]
        raise InvalidRequest(f"The name cannot be used: {detail}.", value=text, pointer="/name") from None
