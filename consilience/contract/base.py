"""What all words of the contract share."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

#: A float that JSON can hold: never NaN, never infinite.
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
#: Of an interval: so near to 1 that more would only be all there is, and rounding reaches 1.
Level = Annotated[float, Field(gt=0.5, le=0.999_999)]
Timestamp = AwareDatetime
#: A user's own label for a set: printable, short, never a path.
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:@+-]*$")]
#: The user's own JSON, stored and returned unchanged; at most 8 KB.
Metadata = Annotated[
    dict[str, Any], Field(description="Your own JSON object, stored and returned unchanged; at most 8 KB.")
]
METADATA_LIMIT_BYTES = 8192
#: Characters of an id or a group of a row.
LABEL_LENGTH = 256
EmbeddingId = Annotated[str, Field(pattern=r"^emb_[0-9a-f]{32}$", examples=["emb_0123456789abcdef0123456789abcdef"])]
DatasetId = Annotated[str, Field(pattern=r"^ds_[0-9a-f]{32}$", examples=["ds_0123456789abcdef0123456789abcdef"])]
MapId = Annotated[str, Field(pattern=r"^map_[0-9a-f]{32}$", examples=["map_0123456789abcdef0123456789abcdef"])]
JobId = Annotated[str, Field(pattern=r"^job_[0-9a-f]{32}$", examples=["job_0123456789abcdef0123456789abcdef"])]
ReferenceId = Annotated[str, Field(pattern=r"^ref_[0-9a-f]{32}$", examples=["ref_0123456789abcdef0123456789abcdef"])]
#: SHA-256, lower-case hexadecimal.
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
LayerNames = Annotated[tuple[str, ...], Field(min_length=1, max_length=1024)]
#: `last`, `all`, or names in the order wanted.
LayerChoice = Literal["last", "all"] | LayerNames


def as_list(value: object) -> object:
    """One item stands for a list of one."""
    return value if isinstance(value, list | tuple) else [value]


class Request(BaseModel):
    """Something that a user sends: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(BaseModel):
    """Something that the service answers: frozen; a client ignores fields that a newer service adds."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)
