"""What the service is and what it allows."""

from consilience.contract.base import Document, Finite


class Limits(Document):
    """Every limit that a request can meet, with its unit in its name."""

    upload_limit_bytes: int
    inline_limit_bytes: int
    """A JSON body, vectors included."""
    column_limit_bytes: int
    """The `ids` or the `groups` of an upload, in a form or a table."""
    metadata_limit_bytes: int
    rows_limit: int
    dim_limit: int
    layers_limit: int
    items_limit: int
    """Of a dataset."""
    text_limit_bytes: int
    """One text or program of a dataset."""
    image_limit_bytes: int
    """One picture of a dataset, as it is encoded."""
    image_pixels_limit: int
    """One picture of a dataset, once it is decoded."""
    job_timeout_s: Finite
    job_memory_limit_bytes: int
    job_flops_limit: Finite
    study_cells_limit: int
    """Pairs of models of one study."""
    wait_limit_s: Finite
    """The longest `Prefer: wait`."""
    queue_limit: int
    owner_queue_limit: int
    """Jobs that wait, of one owner of API keys."""
    owner_bytes_limit: int
    """Bytes of the sets and datasets of one owner of API keys."""
    rate_limit_per_minute: int
    """Requests of one API key."""
    job_retention_days: Finite
    """A finished job is deleted after so long; 0: never. Sets and datasets are kept until they are deleted."""


class GraphCache(Document):
    """The cache of neighbour graphs, which all workers share. The counts only grow, unless the folder is deleted."""

    limit_bytes: int
    """What the kept graphs may take together; 0: none is kept."""
    bytes: int
    graphs: int
    hits: int
    """Graphs that jobs took from the cache."""
    misses: int
    """Graphs that jobs had to build."""
    evictions: int
    """Graphs that made room for others."""


class Info(Document):
    """What the service is and what it allows."""

    name: str = "consilience"
    version: str
    api: str = "v1"
    formats: tuple[str, ...]
    """Media types of an upload of embeddings."""
    dataset_formats: tuple[str, ...]
    """Media types of an upload of a dataset."""
    builtin_datasets: tuple[str, ...]
    """The datasets that the service makes itself, by their names."""
    metrics: tuple[str, ...]
    limits: Limits
    graph_cache: GraphCache
