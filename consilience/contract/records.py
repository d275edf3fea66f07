"""Records of models and settings, which suffice to reproduce an embedding set."""

from pydantic import Field

from consilience.contract.base import Digest, Document


class ModelRecord(Document):
    """Model that produced an embedding set and the settings that reproduce it."""

    model: str
    """Identifier of the model."""
    revision: str | None = None
    """Commit of the model hub, or `sha256:` and the digest of the files of a folder. Null if the weights are not on this
    machine."""
    tokenizer: str | None = None
    """`sha256:` and the digest of tokenizer.json."""
    pooling: str
    """Pooling method: `mean`, `cls` or `last`; `built_in` if the model has its own."""
    max_length: int | None = None
    """Maximum number of tokens that were read of a text; longer texts were truncated."""
    preparation: dict[str, str] = Field(default_factory=dict)
    """Processing of a text or an image before it reaches the model."""
    dtype: str
    """Data type of the weights in memory."""
    libraries: dict[str, str]
    """Versions of the libraries that computed the embeddings."""
    device: str
    """Device that computed the embeddings: `cpu`, a GPU, or `endpoint` for an external server."""


class SetRecord(ModelRecord):
    """Model, settings and dataset that produced an embedding set."""

    dataset: str
    """Dataset as named in the request."""
    dataset_digest: Digest
    """Digest of the dataset; equal for equal content."""
    view: str
    """View of the dataset that the model embedded."""
    truncated: int
    """Number of items that exceeded the maximum length and were truncated."""
