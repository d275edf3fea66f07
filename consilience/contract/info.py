"""Description of the service: version, formats, metrics and limits."""

from consilience.contract.base import Document, Finite


class Limits(Document):
    """Limits on requests. Each name ends with its unit."""

    upload_limit_bytes: int
    """Maximum size of an upload, in bytes."""
    inline_limit_bytes: int
    """Maximum size of a JSON body, including its vectors, in bytes."""
    column_limit_bytes: int
    """Maximum size of the `ids` or the `groups` of an upload, in a form or a table, in bytes."""
    metadata_limit_bytes: int
    """Maximum size of the metadata of a resource, in bytes."""
    rows_limit: int
    """Maximum number of rows of an embedding set."""
    dim_limit: int
    """Maximum number of columns of a layer."""
    layers_limit: int
    """Maximum number of layers of an embedding set."""
    items_limit: int
    """Maximum number of items of a dataset."""
    text_limit_bytes: int
    """Maximum size of one text or program of a dataset, in bytes."""
    image_limit_bytes: int
    """Maximum size of one encoded image of a dataset, in bytes."""
    image_pixels_limit: int
    """Maximum number of pixels of one image of a dataset."""
    job_timeout_s: Finite
    """Maximum running time of a job, in seconds."""
    job_memory_limit_bytes: int
    """Maximum memory of a job's process, in bytes."""
    job_flops_limit: Finite
    """Maximum number of floating-point operations of a job, by estimate."""
    study_cells_limit: int
    """Maximum number of model pairs in a study."""
    wait_limit_s: Finite
    """Longest time that `Prefer: wait` can request, in seconds."""
    queue_limit: int
    """Maximum number of queued jobs."""
    owner_queue_limit: int
    """Maximum number of queued jobs of one owner of API keys."""
    owner_bytes_limit: int
    """Maximum total size of the sets and datasets of one owner of API keys, in bytes."""
    rate_limit_per_minute: int
    """Maximum number of requests per minute with one API key."""
    job_retention_days: Finite
    """Number of days after which a finished job is deleted; 0 keeps jobs forever. Sets and datasets are kept until they
    are deleted."""


class GraphCache(Document):
    """Cache of neighbour graphs that all workers share. The counters only increase, unless the folder is deleted."""

    limit_bytes: int
    """Maximum size of all cached graphs together, in bytes; 0 disables the cache."""
    bytes: int
    """Size of all cached graphs together, in bytes."""
    graphs: int
    """Number of cached graphs."""
    hits: int
    """Number of graphs that jobs read from the cache."""
    misses: int
    """Number of graphs that jobs had to compute."""
    evictions: int
    """Number of graphs removed to make room for others."""


class Info(Document):
    """Version, formats, metrics and limits of the service."""

    name: str = "consilience"
    version: str
    api: str = "v1"
    formats: tuple[str, ...]
    """Media types accepted for uploads of embeddings."""
    dataset_formats: tuple[str, ...]
    """Media types accepted for uploads of datasets."""
    builtin_datasets: tuple[str, ...]
    """Names of the datasets that the service can generate."""
    metrics: tuple[str, ...]
    """Names of all metrics; `GET /v1/metrics` describes them."""
    limits: Limits
    graph_cache: GraphCache
    """State of the cache of neighbour graphs."""
