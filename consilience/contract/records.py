"""What is recorded of the making of embeddings: enough to make the same ones again."""

from pydantic import Field

from consilience.contract.base import Digest, Document


class ModelRecord(Document):
    """Which model made embeddings, and how: enough to make the same ones again."""

    model: str
    """The identifier."""
    revision: str | None = None
    """A commit of the hub, or `sha256:` and the digest of the files of a folder. None: weights that are not here."""
    tokenizer: str | None = None
    """`sha256:` and the digest of tokenizer.json."""
    pooling: str
    """mean, cls or last; `own` where the model brings it along."""
    max_length: int | None = None
    """Tokens of a text that are read; the rest of a longer one is not."""
    preparation: dict[str, str] = Field(default_factory=dict)
    """What is done to a text or an image before the model sees it."""
    dtype: str
    """Of the weights in memory."""
    libraries: dict[str, str]
    """Versions of those that computed."""
    device: str
    """What computed: `cpu`, a card, or `endpoint` where it is not ours."""


class SetRecord(ModelRecord):
    """Which model made a set of which items."""

    dataset: str
    """The dataset as the request named it."""
    dataset_digest: Digest
    """Its version: equal for equal content."""
    view: str
    """Which of its views the model saw."""
    truncated: int
    """Items that were longer than the model reads."""
