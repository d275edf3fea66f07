"""`python -m workers`: one worker, until SIGTERM or SIGINT."""

import functools
import logging
import os
import sys
from typing import Any

import structlog

from consilience.errors import ConsilienceError
from workers.settings import Settings, read_settings

EXIT_STARTUP_FAILED = 2


def main() -> int:
    """Read the settings, load everything that a job needs, work."""
    configure_logging()
    try:
        settings = read_settings()
        limit_threads(settings.threads)
        return _serve(settings)
    except ConsilienceError as error:
        structlog.get_logger().error("worker_failed", detail=str(error), value=error.value)
        return EXIT_STARTUP_FAILED


def configure_logging() -> None:
    """Write JSON lines to standard error: ours and those of every library."""
    before: list[Any] = [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    after: list[Any] = [
        # Traces without the frames' variables, which hold passwords.
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(processors=[*before, *after], logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    handler = logging.StreamHandler(sys.stderr)
    unwrap = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=[unwrap, *after]))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def limit_threads(threads: int) -> None:
    """Give the numeric libraries this many threads. They read it when they are imported, so this comes first."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
    # OpenBLAS's threads spin for a tenth of a second after each product, on cores that the job's other threads need; so
    # they sleep after 2^16 cycles.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")
    # The only layer of numba's that survives a fork.
    os.environ["NUMBA_THREADING_LAYER"] = "workqueue"


def _serve(settings: Settings) -> int:
    # These load numpy, FAISS and the compiled kernels: after the threads are limited, before any fork.
    from consilience.execution import parallel  # noqa: PLC0415 - as the line above says
    from consilience.stores.blobs import Blobs  # noqa: PLC0415 - the same
    from consilience.stores.checkpoints import Partials  # noqa: PLC0415 - the same
    from consilience.stores.database import Database  # noqa: PLC0415 - the same
    from consilience.stores.embeddings import EmbeddingRecords  # noqa: PLC0415 - the same
    from consilience.stores.graph_cache import Graphs  # noqa: PLC0415 - the same
    from consilience.stores.records import EVERYTHING  # noqa: PLC0415 - the same
    from consilience.stores.references import ReferenceRecords  # noqa: PLC0415 - the same
    from workers import context, tasks, worker  # noqa: PLC0415 - the same
    from workers.context import Workshop  # noqa: PLC0415 - the same

    parallel.check_device(settings.device)
    parallel.look_ahead()
    database = Database(settings.database)
    if settings.cluster:
        parallel.load_cluster()
    # Others read the same files by the same paths, whatever folder they started in.
    data_dir = settings.data_dir.resolve()
    workshop = Workshop(
        database=database,
        data_dir=data_dir,
        embeddings=EmbeddingRecords(database, EVERYTHING),
        references=ReferenceRecords(database, EVERYTHING),
        blobs=Blobs(data_dir),
        graphs=Graphs(data_dir, settings.graph_cache_bytes),
        partials=Partials(data_dir),
        rules=settings.rules,
        cluster=settings.cluster,
        device=settings.device,
        job_flops_limit=settings.job_flops_limit,
        job_timeout_s=settings.job_timeout_s,
        owner_bytes_limit=settings.owner_bytes_limit,
    )
    task, warm = functools.partial(tasks.run, workshop=workshop), functools.partial(context.warm_up, database=database)
    # Models run in workers of one queue; the others never need their libraries.
    return worker.serve(settings, database, task, warm if settings.queue == "extract" else None)


if __name__ == "__main__":
    sys.exit(main())
