"""Types and base classes that the whole contract shares."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

#: Float that JSON can represent: neither NaN nor infinite.
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
#: Confidence level; above this maximum, rounding would reach 1.
Level = Annotated[float, Field(gt=0.5, le=0.999_999)]
Timestamp = AwareDatetime
#: Label of a resource: short, printable and never a path.
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:@+-]*$")]
#: JSON object of the user, stored and returned unchanged; at most 8 KB.
Metadata = Annotated[
    dict[str, Any], Field(description="Your own JSON object, stored and returned unchanged; at most 8 KB.")
]
METADATA_LIMIT_BYTES = 8192
#: Maximum number of characters of an item id or a group label.
LABEL_LENGTH = 256
EmbeddingId = Annotated[str, Field(pattern=r"^emb_[0-9a-f]{32}$", examples=["emb_0123456789abcdef0123456789abcdef"])]
DatasetId = Annotated[str, Field(pattern=r"^ds_[0-9a-f]{32}$", examples=["ds_0123456789abcdef0123456789abcdef"])]
MapId = Annotated[str, Field(pattern=r"^map_[0-9a-f]{32}$", examples=["map_0123456789abcdef0123456789abcdef"])]
JobId = Annotated[str, Field(pattern=r"^job_[0-9a-f]{32}$", examples=["job_0123456789abcdef0123456789abcdef"])]
ReferenceId = Annotated[str, Field(pattern=r"^ref_[0-9a-f]{32}$", examples=["ref_0123456789abcdef0123456789abcdef"])]
#: SHA-256 in lower-case hexadecimal.
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
LayerNames = Annotated[tuple[str, ...], Field(min_length=1, max_length=1024)]
#: `last`, `all`, or layer names in the order of the result.
LayerChoice = Literal["last", "all"] | LayerNames


def as_list(value: object) -> object:
    """Wrap a single item in a list."""
    return value if isinstance(value, list | tuple) else [value]


class Request(BaseModel):
    """Base class of requests: frozen; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(BaseModel):
    """Base class of responses: frozen; unknown fields of newer services are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)
