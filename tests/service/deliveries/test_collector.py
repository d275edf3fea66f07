"""Garbage collector: deletes only what no record or upload in progress references."""

import fcntl
import itertools
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from consilience.contract.embeddings import EmbeddingSet
from consilience.datasets.scenes import open_scenes
from consilience.errors import Expired, NotFound, Unavailable
from consilience.formats.files import from_vectors
from consilience.stores.blobs import BlobStore
from consilience.stores.database import Database
from consilience.stores.datasets import DatasetLabel, open_items
from consilience.stores.files import exclusive_upload_lock
from consilience.stores.graph_cache import DiskCache
from consilience.stores.queue import JobQueue
from consilience.stores.records import ALL_OWNERS
from consilience.stores.retention import Retention
from service.deliveries.collector import Collected, Collector
from service.ingest import dataset_repository, remove, remove_record, store
from service.stores import Stores


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def stores(database: Database, root: Path, redis_url: str) -> Stores:
    return Stores(database, BlobStore(root), DiskCache(root, 0), JobQueue(redis_url), ALL_OWNERS)


@pytest.fixture
def make_collector(database: Database, stores: Stores, root: Path) -> Callable[..., Collector]:
    def make(retention: timedelta | None = None, grace_s: float = 3600.0, lock_timeout_s: float = 0.2) -> Collector:
        return Collector(Retention(database), stores.blobs, root, retention, grace_s, lock_timeout_s)

    return make


def keep(stores: Stores, root: Path, seed: int, name: str = "docs", *, ids: bool = False) -> str:
    vectors = [[float(seed), float(row)] for row in range(5)]
    labels = [f"{seed}-{row}" for row in range(5)] if ids else None
    return store(stores, root, from_vectors(vectors, ids=labels), name, {})[0].id


def age(root: Path, seconds: float) -> None:
    for path in [
        *root.glob("layers/*/*"),
        *root.glob("columns/*/*"),
        *root.glob("views/*/*"),
        *root.glob("incoming/*"),
    ]:
        os.utime(path, (time.time() - seconds,) * 2)


def test_referenced_blobs_of_any_age_are_kept(
    stores: Stores, root: Path, make_collector: Callable[..., Collector]
) -> None:
    keep(stores, root, 1, ids=True)
    age(root, 10**6)
    before = sorted(stores.blobs.digests())
    assert make_collector(grace_s=0.0).collect() == Collected(0, 0, 0, 0)
    assert (sorted(stores.blobs.digests()), len(before)) == (before, 2)


def test_old_unreferenced_blobs_are_deleted(
    stores: Stores, root: Path, make_collector: Callable[..., Collector]
) -> None:
    kept = keep(stores, root, 1, ids=True)
    stores.blobs.put(from_vectors([[float(row)] for row in range(5)]))
    stores.blobs.put_column(["nobody's"])
    age(root, 1800)
    assert make_collector().collect().blobs == 0
    age(root, 3601)
    assert make_collector().collect().blobs == 2
    assert len(list(stores.blobs.digests())) == 2
    assert stores.embeddings.get(kept).id == kept


def test_views_and_ids_of_datasets_are_collected_like_other_blobs(
    stores: Stores, root: Path, make_collector: Callable[..., Collector]
) -> None:
    kept, lost = open_scenes(4), open_scenes(5)
    dataset, _ = dataset_repository(stores, root).add(open_items(kept), DatasetLabel("kept", {}))
    stores.blobs.put_items(open_items(lost))
    age(root, 3601)
    assert make_collector().collect().blobs == len(lost.views) + 1
    assert stores.blobs.open_dataset(dataset).view("caption_3").read(0, 4) == kept.view("caption_3").read(0, 4)
    remove_record(stores, root, stores.datasets.delete, dataset.id)
    assert list(stores.blobs.digests()) == []


def test_temporary_files_of_crashes_are_deleted_and_others_kept(
    stores: Stores, root: Path, make_collector: Callable[..., Collector]
) -> None:
    (root / "incoming" / "left").write_bytes(b"half")
    age(root, 3601)
    (root / "incoming" / "coming").write_bytes(b"half")
    assert make_collector().collect().files == 1
    assert [path.name for path in (root / "incoming").iterdir()] == ["coming"]


def test_jobs_are_deleted_after_their_retention_unless_it_is_unlimited(
    stores: Stores, root: Path, make_collector: Callable[..., Collector]
) -> None:
    from tests.service.deliveries.conftest import PLAN

    job_id = stores.jobs.request_cancel(stores.jobs.add("alignment", {}, PLAN, ()).job.id).id
    assert make_collector(None).collect().jobs == 0
    assert make_collector(timedelta(days=1)).collect().jobs == 0
    assert make_collector(timedelta(0)).collect().jobs == 1
    with pytest.raises(Expired):
        stores.jobs.get(job_id)


def test_no_blob_is_deleted_while_an_upload_is_in_progress(
    stores: Stores, root: Path, make_collector: Callable[..., Collector]
) -> None:
    stores.blobs.put(from_vectors([[float(row)] for row in range(5)]))
    age(root, 10**6)  # as if a clock had jumped, or the process had been frozen for days
    with ExitStack() as upload:
        lock = upload.enter_context((root / "layers.lock").open("a"))
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert make_collector(grace_s=0.0).collect().blobs == 0
    assert make_collector(grace_s=0.0).collect().blobs == 1


#: A machine on which eleven rounds take longer is not busy but broken.
ROUNDS_LIMIT_S = 60.0


class Race:
    """Repeated storing and deleting of four contents beside collectors without a minimum age."""

    def __init__(self, stores: Stores, root: Path, collector: Collector) -> None:
        self.stores, self.root, self.collector = stores, root, collector
        self.stopping = threading.Event()
        self.lost: list[Exception] = []
        self.rounds = 0

    def run(self, seconds: float, rounds: int) -> None:
        """Run for a minimum time and a minimum number of collector rounds."""
        threads = [threading.Thread(target=self.upload, args=(number,)) for number in range(3)]
        threads += [threading.Thread(target=self.collect) for _ in range(2)]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds or (self.rounds < rounds and passed < ROUNDS_LIMIT_S):
            time.sleep(0.01)
        self.stopping.set()
        for thread in threads:
            thread.join(20)

    def upload(self, number: int) -> None:
        for step in itertools.count():
            set_id = keep(self.stores, self.root, (number + step) % 4, f"set-{number}", ids=True)
            self.check(set_id)
            if step % 5:
                remove(self.stores, self.root, set_id)
            if self.stopping.is_set():
                return

    def check(self, set_id: str) -> None:
        try:
            read_all(self.stores, self.stores.embeddings.get(set_id))
        except NotFound:
            return
        except Unavailable as error:
            if exists(self.stores, set_id):  # or another thread has removed it just now
                self.lost.append(error)

    def collect(self) -> None:
        while not self.stopping.is_set():
            self.collector.collect()
            self.rounds += 1


def test_concurrent_uploads_deletions_and_collectors_lose_no_blob(
    stores: Stores, root: Path, make_collector: Callable[..., Collector]
) -> None:
    race = Race(stores, root, make_collector(grace_s=0.0, lock_timeout_s=0.5))
    race.run(2.0, rounds=11)
    assert race.lost == []
    assert race.rounds > 10
    for stored in stores.embeddings.page(None, 100).data:
        read_all(stores, stored)


def read_all(stores: Stores, stored: EmbeddingSet) -> None:
    """Read a set; raises Unavailable if a blob is missing."""
    for layer in stored.layers:
        assert stores.blobs.open(layer, stored.n).rows(0, stored.n).shape == (5, 2)
    assert stored.ids is not None
    assert len(stores.blobs.read_column(stored.ids.digest)) == 5


def exists(stores: Stores, set_id: str) -> bool:
    try:
        stores.embeddings.get(set_id)
    except NotFound:
        return False
    return True


def test_a_held_lock_does_not_block_the_collector(root: Path) -> None:
    (root / "layers.lock").touch()
    with exclusive_upload_lock(root) as first, exclusive_upload_lock(root) as second:
        assert (first, second) == (True, False)
