"""What jobs make counts for their owner's quota, as what it uploads does."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilience.contract.alignments import AlignmentRequest
from consilience.contract.datasets import BuiltinRequest
from consilience.contract.jobs import Job, JobKind, Plan
from consilience.contract.keys import DEFAULT_OWNER, Scope
from consilience.contract.maps import MapRequest
from consilience.errors import QuotaExceeded
from consilience.formats.files import FormatLimits, from_vectors
from consilience.maps.api import fit_map
from consilience.stores.blobs import BlobStore
from consilience.stores.checkpoints import CheckpointStore
from consilience.stores.database import Database
from consilience.stores.datasets import DatasetRecords, DatasetRepository
from consilience.stores.embeddings import EmbeddingRecords, EmbeddingRepository
from consilience.stores.graph_cache import DiskCache
from consilience.stores.jobs import JobRecords
from consilience.stores.keys import KeyRecords
from consilience.stores.leases import Leases
from consilience.stores.maps import MapRecords
from consilience.stores.records import ALL_OWNERS, Access
from consilience.stores.references import ReferenceRecords
from workers import tasks
from workers.attempts import AttemptRunner, Tracing
from workers.context import WorkerContext

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
PLAN = Plan(n=40, dim_a=4, dim_b=4, cells=1, flops=1.0, bytes=1, seconds=0.0)
ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
MAP = fit_map(ROWS, ROWS, map="procrustes").file()
PIXELS = {"model": "baseline:pixels?size=4", "dataset": "scenes:n=40", "view": "image"}
MADE = ("map", "translation", "extraction", "found", "side", "dataset")


@dataclass(frozen=True)
class Bench:
    """An owner with a set, a map and a dataset, and a worker that does its jobs here and now."""

    context: WorkerContext
    owner: str

    @property
    def access(self) -> Access:
        return Access(self.owner)

    def fill(self) -> None:
        shop = self.context
        sets = EmbeddingRepository(EmbeddingRecords(shop.database, self.access), shop.blobs, shop.data_dir)
        sets.add(from_vectors(ROWS.tolist(), FormatLimits()), "rows", {})
        MapRecords(shop.database, shop.blobs, self.access).add("map", MAP)
        datasets = DatasetRepository(DatasetRecords(shop.database, self.access), shop.blobs, shop.data_dir)
        datasets.add_builtin(BuiltinRequest(builtin=PIXELS["dataset"]))

    def request(self, what: str) -> tuple[JobKind, dict[str, Any]]:
        """A job that makes something new."""
        shop = self.context
        rows = EmbeddingRecords(shop.database, self.access).page(None, 1, "rows").data[0].id
        side = {"embedding": rows}
        if what == "map":
            return "map", MapRequest.model_validate({"a": side, "b": side}).model_dump(mode="json")
        if what == "translation":
            own = MapRecords(shop.database, shop.blobs, self.access).page(None, 1).data[0].id
            return "translation", {"map": own, **side, "layer": "last", "name": None}
        if what == "side":
            request = {"a": {"embedding": rows}, "b": PIXELS, "metrics": ["cka"]}
            return "alignment", AlignmentRequest.model_validate(request).model_dump(mode="json")
        if what == "dataset":  # a built-in one that is not there yet
            return "extraction", {**PIXELS, "dataset": "scenes:n=41"}
        return "extraction", {**PIXELS, "name": what}

    def run(self, what: str) -> Job:
        """The job, after one run."""
        database = self.context.database
        jobs, (kind, request) = JobRecords(database, self.access), self.request(what)
        job = jobs.add(kind, request, PLAN, ()).job
        task = functools.partial(tasks.run, context=self.context)
        assert AttemptRunner(Leases(database), task, "w", Tracing("align", lambda _: None)).run((job.id, 1)) == 0
        return jobs.get(job.id)

    def contents(self) -> tuple[int, list[str]]:
        """Bytes that count for the owner, and everything that is kept for anybody."""
        shop = self.context
        database, access = shop.database, self.access
        own = (
            EmbeddingRecords(database, access),
            DatasetRecords(database, access),
            MapRecords(database, shop.blobs, access),
        )
        kept = [each for records in own for each in records.page(None, 100).data]
        return sum(each.bytes for each in kept), sorted([each.id for each in kept] + list(shop.blobs.digests()))


@pytest.fixture(params=["ana", DEFAULT_OWNER])
def bench(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Bench:
    """Also of an owner who is called as everybody is where there are no keys."""
    context = WorkerContext(
        database,
        tmp_path,
        EmbeddingRecords(database, ALL_OWNERS),
        ReferenceRecords(database, ALL_OWNERS),
        BlobStore(tmp_path),
        DiskCache(tmp_path, 2**20),
        CheckpointStore(tmp_path),
    )
    bench = Bench(context, request.param)
    bench.fill()
    return bench


def at_its_limit(bench: Bench) -> Bench:
    """The same, where the owner's key allows not a byte more than there is."""
    KeyRecords(bench.context.database).create(bench.owner, [Scope.WRITE])
    return replace(bench, context=replace(bench.context, owner_bytes_limit=bench.contents()[0]))


@pytest.mark.parametrize("what", MADE)
def test_a_job_whose_result_the_quota_cannot_hold_has_failed_and_left_nothing(bench: Bench, what: str) -> None:
    if what == "found":  # the set is there, under another name
        bench.run("extraction")
    full = at_its_limit(bench)
    before = full.contents()

    job = full.run(what)

    assert job.error is not None, job
    assert (job.status, job.error.code) == ("failed", "quota-exceeded")
    assert job.error.limit == (0 if what == "dataset" else before[0]), "of a dataset's items, what is left of it"
    assert "CONSILIENCE_OWNER_BYTES_LIMIT" in (job.error.hint or "")
    assert full.contents() == before


@pytest.mark.parametrize("what", MADE)
def test_without_keys_nobody_has_a_quota(bench: Bench, what: str) -> None:
    free = replace(bench, context=replace(bench.context, owner_bytes_limit=1))
    before, _ = free.contents()

    job = free.run(what)

    assert job.status == "succeeded", job.error
    assert free.contents()[0] > before


def test_a_model_embeds_nothing_where_its_set_would_not_fit(bench: Bench) -> None:
    full = at_its_limit(bench)
    seen: list[str] = []
    kind, request = full.request("extraction")
    job = JobRecords(full.context.database, full.access).add(kind, request, PLAN, ()).job

    with pytest.raises(QuotaExceeded):
        tasks.run(job, lambda stage, *_: seen.append(stage), context=full.context)

    assert seen[-1] == "loading the model"
