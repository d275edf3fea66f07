"""Run one worker until SIGTERM or SIGINT: `python -m workers`."""

import functools
import logging
import os
import sys
from typing import Any

import structlog

from consilience.errors import ConsilienceError
from workers.settings import WorkerSettings, read_settings

EXIT_STARTUP_FAILED = 2


def main() -> int:
    """Read the settings, import all that jobs need, and run jobs."""
    configure_logging()
    try:
        settings = read_settings()
        limit_threads(settings.threads)
        return _serve(settings)
    except ConsilienceError as error:
        structlog.get_logger().error("worker_failed", detail=str(error), value=error.value)
        return EXIT_STARTUP_FAILED


def configure_logging() -> None:
    """Write the logs of this program and of all libraries to standard error as JSON lines."""
    before: list[Any] = [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    after: list[Any] = [
        # Tracebacks without local variables, which may contain passwords.
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(processors=[*before, *after], logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    handler = logging.StreamHandler(sys.stderr)
    unwrap = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=[unwrap, *after]))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def limit_threads(threads: int) -> None:
    """Set the number of threads of the numeric libraries. They read it when they are imported, so call this first."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
    # By default OpenBLAS threads spin for a tenth of a second after each product, on cores that other threads of the job
    # need. With this setting they sleep after 2^16 cycles.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")
    # The only threading layer of numba that survives a fork.
    os.environ["NUMBA_THREADING_LAYER"] = "workqueue"


def _serve(settings: WorkerSettings) -> int:
    # These imports load numpy, FAISS and the compiled kernels: after limit_threads, and before any fork.
    from consilience.execution import parallel  # noqa: PLC0415 - see the comment above
    from consilience.stores.blobs import BlobStore  # noqa: PLC0415 - see the comment above
    from consilience.stores.checkpoints import CheckpointStore  # noqa: PLC0415 - see the comment above
    from consilience.stores.database import Database  # noqa: PLC0415 - see the comment above
    from consilience.stores.embeddings import EmbeddingRecords  # noqa: PLC0415 - see the comment above
    from consilience.stores.graph_cache import DiskCache  # noqa: PLC0415 - see the comment above
    from consilience.stores.records import ALL_OWNERS  # noqa: PLC0415 - see the comment above
    from consilience.stores.references import ReferenceRecords  # noqa: PLC0415 - see the comment above
    from workers import tasks, worker  # noqa: PLC0415 - see the comment above
    from workers.context import WorkerContext, preload  # noqa: PLC0415 - see the comment above

    parallel.check_device(settings.device)
    parallel.prepare_fork()
    database = Database(settings.database)
    if settings.cluster:
        parallel.load_cluster()
    # Processes with other working directories use the same paths.
    data_dir = settings.data_dir.resolve()
    context = WorkerContext(
        database=database,
        data_dir=data_dir,
        embeddings=EmbeddingRecords(database, ALL_OWNERS),
        references=ReferenceRecords(database, ALL_OWNERS),
        blobs=BlobStore(data_dir),
        graphs=DiskCache(data_dir, settings.graph_cache_bytes),
        checkpoints=CheckpointStore(data_dir),
        rules=settings.rules,
        cluster=settings.cluster,
        device=settings.device,
        job_flops_limit=settings.job_flops_limit,
        job_timeout_s=settings.job_timeout_s,
        owner_bytes_limit=settings.owner_bytes_limit,
    )
    task, preload_models = functools.partial(tasks.run, context=context), functools.partial(preload, database=database)
    # Only the workers of one queue run models and need their libraries.
    return worker.serve(settings, database, task, preload_models if settings.queue == "extract" else None)


if __name__ == "__main__":
    sys.exit(main())
