"""Stores of the service, opened once per process and closed in reverse order."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from consilience.stores.blobs import BlobStore
from consilience.stores.cells import CellRecords
from consilience.stores.database import Database
from consilience.stores.datasets import DatasetRecords
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.graph_cache import DiskCache
from consilience.stores.jobs import JobRecords
from consilience.stores.keys import KeyRecords
from consilience.stores.leases import Leases
from consilience.stores.maps import MapRecords
from consilience.stores.queue import JobQueue
from consilience.stores.records import Access
from consilience.stores.references import ReferenceRecords
from service.reconciler import Reconciler, ReconcilerTiming
from service.settings import ServiceSettings

#: Age in seconds at which a temporary file counts as left behind by a process that died.
STALE_S = 3600.0


@dataclass(frozen=True)
class Stores:
    """Stores that outlive a request. Those of records see what `access` allows and are made when they are first used."""

    database: Database
    blobs: BlobStore
    graphs: DiskCache
    queue: JobQueue
    access: Access = field(default_factory=Access)

    def restricted_to(self, access: Access) -> Self:
        """Return the same stores, restricted to the records of this access."""
        return replace(self, access=access)

    @cached_property
    def embeddings(self) -> EmbeddingRecords:
        """Records of embedding sets."""
        return EmbeddingRecords(self.database, self.access)

    @cached_property
    def datasets(self) -> DatasetRecords:
        """Records of datasets."""
        return DatasetRecords(self.database, self.access)

    @cached_property
    def references(self) -> ReferenceRecords:
        """Records of reference sets."""
        return ReferenceRecords(self.database, self.access)

    @cached_property
    def maps(self) -> MapRecords:
        """Records of maps."""
        return MapRecords(self.database, self.blobs, self.access)

    @cached_property
    def jobs(self) -> JobRecords:
        """Records of jobs."""
        return JobRecords(self.database, self.access)

    @cached_property
    def cells(self) -> CellRecords:
        """Cells of studies, which have no owner."""
        return CellRecords(self.database)

    @cached_property
    def keys(self) -> KeyRecords:
        """Records of API keys."""
        return KeyRecords(self.database)


def _timing(settings: ServiceSettings) -> ReconcilerTiming:
    return ReconcilerTiming(
        lease_s=settings.lease_s, max_crashes=settings.max_crashes, job_timeout_s=settings.job_timeout_s
    )


@contextmanager
def open_stores(settings: ServiceSettings) -> Iterator[Stores]:
    """Open the stores, bring the schema up to date and start the reconciler."""
    with ExitStack() as stack:
        blobs = BlobStore(settings.data_dir)
        blobs.sweep(STALE_S)
        database = Database(settings.database)
        stack.callback(database.close)
        database.migrate()
        queue = JobQueue(settings.redis_url.get_secret_value())
        stack.callback(queue.close)
        reconciler = Reconciler(Leases(database), queue, _timing(settings))
        reconciler.start()
        stack.callback(reconciler.stop)
        yield Stores(database, blobs, DiskCache(settings.data_dir, settings.graph_cache_bytes), queue)
