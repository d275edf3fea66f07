"""Reading of request bodies, with limits on size and speed. At most a megabyte of a file is in memory.

The option `max_body_size` of FastAPI is not used: its response to a declared length above the limit is plain text, while
every error of this service is a problem document with the limit and the size.
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
from consilience.quoting import QUOTED_LENGTH

#: Number of bytes that are collected before a thread writes them.
BATCH_BYTES = 2**20

ChunkWriter = Callable[[bytes], object]


def media_type_of(request: Request) -> str | None:
    """Return the media type of the body without parameters, or None if the client sends none."""
    return clean_media_type(request.headers.get("content-type"))


def clean_media_type(value: str | None) -> str | None:
    """Return a media type without parameters in lower case: `application/json` for `Application/JSON; charset=utf-8`."""
    return value.split(";")[0].strip().lower() or None if value else None


@dataclass(frozen=True)
class BodyLimits:
    """Maximum size and minimum speed of a body."""

    limit: int
    """Maximum number of bytes. A larger declared length is refused before the body is read."""
    idle_s: float
    """Maximum number of seconds between two chunks."""
    min_bytes_per_s: int = 1024
    """Minimum mean number of bytes per second, after the first `idle_s` seconds."""
    quota_left: int | None = None
    """Number of bytes that the owner can still store, if this quota determines the limit."""

    def timeout(self, elapsed: float, total: int) -> float:
        """Return the seconds until the next chunk must arrive, `elapsed` seconds and `total` bytes after the start."""
        return max(0.0, min(self.idle_s, self.idle_s + total / self.min_bytes_per_s - elapsed))


async def receive(request: Request, sink: ChunkWriter, limits: BodyLimits) -> None:
    """Pass the body to `sink` in a thread, in order and in batches.

    Raises
    ------
    TooLarge, QuotaExceeded, UnsupportedFormat
        The body exceeds the limit, or is compressed.
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
        raise HTTPException(408, "the body was sent too slowly, or its end did not arrive") from None


def check_encoding(request: Request) -> None:
    """Refuse a compressed body, because its real size is unknown until it is decompressed."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedFormat(
            f"The body is compressed with {encoding[:QUOTED_LENGTH]!r}, which the service does not accept.",
            value=encoding,
            hint="Send the body uncompressed and without the header Content-Encoding.",
        )


def check_declared_length(request: Request, limits: BodyLimits) -> None:
    """Refuse a body by its declared length, before reading it."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.limit:
        raise _too_large(f"{int(declared)} bytes", limits)


def _too_large(size: str, limits: BodyLimits) -> TooLarge | QuotaExceeded:
    if limits.quota_left is not None:
        return QuotaExceeded(
            f"The body has {size}; the owner can store {limits.quota_left} more bytes.",
            value=size,
            limit=limits.quota_left,
            hint="Delete sets that are no longer needed, or ask the operator to raise CONSILIENCE_OWNER_BYTES_LIMIT.",
        )
    return TooLarge(
        f"The body has {size}; at most {limits.limit} are allowed.",
        value=size,
        limit=limits.limit,
        hint="Send a smaller body; a file with float16 values has half the size. GET /v1/info lists all limits.",
    )


async def receive_bytes(request: Request, limits: BodyLimits) -> bytes:
    """Return the whole body; only for small bodies."""
    body = bytearray()
    await receive(request, body.extend, limits)
    return bytes(body)


def parse_json(data: bytes, pointer: str = "") -> object:
    """Parse strict JSON.

    Raises
    ------
    InvalidRequest
        The data are not JSON. NaN, infinity, lone surrogates and invalid UTF-8 are not allowed.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        around = data[max(0, error.pos - 20) : error.pos + 20].decode("utf-8", "replace")
        raise InvalidRequest(
            f"The value is not valid JSON: {error}.",
            value=around,
            hint="Send valid JSON in UTF-8. NaN and infinity are not allowed.",
            pointer=pointer,
        ) from None


#: Maximum depth of nested JSON; recursive JSON writers fail at greater depths.
DEPTH_LIMIT = 32


def parse_metadata(text: str | None, pointer: str = "metadata") -> dict[str, Any]:
    """Parse metadata from JSON text; None gives an empty object.

    Raises
    ------
    InvalidRequest, TooLarge
    """
    if text is None:
        return {}
    value = parse_json(text.encode("utf-8", "surrogatepass"), pointer)
    if not isinstance(value, dict):
        raise InvalidRequest("The metadata must be a JSON object.", value=text, pointer=pointer)
    check_metadata(value, pointer)
    return value


def check_metadata(metadata: dict[str, Any], pointer: str) -> None:
    """Raise an error if the metadata cannot be stored or is too large."""
    for depth, item in walk(metadata):
        if depth > DEPTH_LIMIT:
            raise InvalidRequest(
                f"The metadata is nested more than {DEPTH_LIMIT} levels deep.", limit=DEPTH_LIMIT, pointer=pointer
            )
        if isinstance(item, str) and "\0" in item:
            raise InvalidRequest("The metadata contains a NUL character.", value=repr(item), pointer=pointer)
    check_size("The metadata", orjson.dumps(metadata), METADATA_LIMIT_BYTES, pointer)


def check_size(words: str, text: bytes, limit: int, pointer: str) -> None:
    """Raise TooLarge if a JSON text has more bytes than the limit; `words` name it in the message."""
    if len(text) > limit:
        raise TooLarge(
            f"{words} has {len(text)} bytes; at most {limit} are allowed.",
            value=f"{len(text)} bytes",
            limit=limit,
            pointer=pointer,
        )


def walk(value: object) -> Iterator[tuple[int, object]]:
    """Yield every key and value with its depth, breadth first and without recursion."""
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


#: Maximum number of values in a request, without its vectors.
VALUES_LIMIT = 10_000

_Model = TypeVar("_Model", bound=BaseModel)


def read_model(model: type[_Model], body: object) -> _Model:
    """Validate a parsed JSON body as a request.

    Raises
    ------
    InvalidFields
        Fields are not valid; each error has a JSON pointer.
    InvalidRequest
        The body is nested too deeply or has too many values.
    """
    for count, (depth, _) in enumerate(walk(body)):
        if depth > DEPTH_LIMIT or count > VALUES_LIMIT:
            raise InvalidRequest(
                f"The request is too large: at most {VALUES_LIMIT} values besides vectors, nested at most {DEPTH_LIMIT} levels "
                "deep, are allowed.",
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
    """Name and metadata of a resource."""

    name: str
    metadata: dict[str, Any]


def read_resource_label(fields: Mapping[str, bytes], default: ResourceLabel) -> ResourceLabel:
    """Read name and metadata from the parts of a form; missing parts keep the values of `default`."""
    texts = {name: value.decode("utf-8", "replace") for name, value in fields.items()}
    name = _parse_name(texts["name"]) if "name" in texts else default.name
    metadata = parse_metadata(texts["metadata"], "/metadata") if "metadata" in texts else default.metadata
    return ResourceLabel(name, metadata)


def _parse_name(text: str) -> str:
    """Parse a name that is plain text or a JSON string; a name cannot begin with a quotation mark."""
    value = parse_json(text.encode(), "/name") if text.startswith('"') else text
    try:
        return NAMES.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]["msg"]
        raise InvalidRequest(f"The name is not valid: {detail}.", value=text, pointer="/name") from None
