"""What holds for records of every kind: held by unfinished jobs, made once, within the owner's quota."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from consilience.contract.datasets import ViewRecord
from consilience.contract.embeddings import Column, Layer
from consilience.contract.jobs import Job
from consilience.errors import InUse, KeyReused, NotFound, QuotaExceeded
from consilience.maps.api import fit_map
from consilience.stores import tables
from consilience.stores.blobs import BlobStore
from consilience.stores.database import Database
from consilience.stores.datasets import DatasetLabel, DatasetRecords
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import Leases
from consilience.stores.maps import MapRecords
from consilience.stores.records import DATASETS, EMBEDDINGS, MAPS, REFERENCES, Access, RecordTable
from consilience.stores.references import ReferenceRecords
from tests.concurrency import start_together
from tests.stores.conftest import PLAN, digest

ROWS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
MAP = fit_map(ROWS, ROWS, map="procrustes").file()
#: Of one record of each kind that counts.
SIZES = {EMBEDDINGS: 60, DATASETS: 60, MAPS: 4 * (3 * 3 + 3)}


@dataclass(frozen=True)
class RecordFactory:
    """Makes records of any kind."""

    database: Database
    blobs: BlobStore
    access: Access = field(default_factory=Access)

    def records(self, kind: RecordTable) -> Any:
        if kind is MAPS:
            return MapRecords(self.database, self.blobs, self.access)
        classes = {EMBEDDINGS: EmbeddingRecords, DATASETS: DatasetRecords, REFERENCES: ReferenceRecords}
        return classes[kind](self.database, self.access)

    def make(self, kind: RecordTable, name: str = "mine", key: str | None = None) -> tuple[str, bool]:
        """The id of a record under this name, and whether it is new."""
        records = self.records(kind)
        if kind is MAPS:
            made, created = records.add(name, MAP, idempotency_key=key)
        elif kind is DATASETS:
            view = ViewRecord(name="text", kind="text", bytes=60, digest=digest("v"))
            label = DatasetLabel(name, {})
            made, created = records.add(label, [view], Column(digest=digest("i"), unique=5), key)
        elif kind is REFERENCES:
            made, created = records.add(name, [self.make(EMBEDDINGS)[0]], {}, key)
        else:
            layer = Layer(name="0", dim=3, dtype="F32", digest=digest("x"))
            made, created = records.add(name, 5, [layer], digest("x"), {}, 60, idempotency_key=key)
        return made.id, created

    def count(self, kind: RecordTable) -> int:
        with self.database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(kind.table)).scalar_one()

    def ask(self, kind: RecordTable, record_id: str) -> Job:
        """A job that needs the record."""
        needs = {EMBEDDINGS: "embeddings", DATASETS: "datasets", REFERENCES: "references", MAPS: "maps"}
        request: dict[str, Any] = {"embeddings": (), needs[kind]: [record_id]}
        return JobRecords(self.database).add("alignment", {}, PLAN, **request).job


@pytest.fixture
def factory(database: Database, tmp_path: Path) -> RecordFactory:
    return RecordFactory(database, BlobStore(tmp_path))


@pytest.fixture(params=[EMBEDDINGS, DATASETS, REFERENCES, MAPS], ids=lambda kind: kind.prefix)
def kind(request: pytest.FixtureRequest) -> RecordTable:
    kind: RecordTable = request.param
    return kind


def outcomes(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the calls answer or raise, all begun together."""
    return [future.exception() or future.result() for future in start_together(calls)]


def test_records_of_a_job_stay_until_the_job_has_finished(
    factory: RecordFactory, kind: RecordTable, leases: Leases
) -> None:
    records, (own, _) = factory.records(kind), factory.make(kind)
    waiting, running = factory.ask(kind, own), factory.ask(kind, own)
    assert leases.claim(running.id, 1, "w")

    with pytest.raises(InUse, match=f"unfinished job job_.* uses this {kind.word}"):
        records.delete(own)
    JobRecords(factory.database).request_cancel(waiting.id)
    with pytest.raises(InUse, match=running.id):
        records.delete(own)
    leases.canceled(running.id, 1)
    assert records.get(own).id == own
    records.delete(own)

    with pytest.raises(NotFound, match=f"no such {kind.word}"):
        records.get(own)
    assert JobRecords(factory.database).get(running.id).finished


def test_a_job_cannot_be_added_for_what_is_gone(factory: RecordFactory, kind: RecordTable) -> None:
    own, _ = factory.make(kind)
    factory.records(kind).delete(own)

    with pytest.raises(NotFound, match=f"no such {kind.word}"):
        factory.ask(kind, own)

    assert JobRecords(factory.database).page(None, 5).data == ()


def test_a_job_or_a_concurrent_deletion_is_refused(factory: RecordFactory, kind: RecordTable) -> None:
    for number in range(5):
        own, _ = factory.make(kind, name=f"n{number}")
        asked, deleted = outcomes(
            [lambda own=own: factory.ask(kind, own), lambda own=own: factory.records(kind).delete(own)]
        )  # type: ignore[misc]  # a default binds the loop's value

        assert isinstance(asked, Job) != (not isinstance(deleted, Exception))
        if isinstance(asked, Job):
            assert isinstance(deleted, InUse)
            assert factory.records(kind).get(own).id == own
        else:
            assert isinstance(asked, NotFound)


def test_a_record_deleted_during_an_equal_insert_is_new(factory: RecordFactory, kind: RecordTable) -> None:
    old, _ = factory.make(kind)
    deleting, going = Event(), Event()

    def delete() -> None:
        with factory.database.write() as connection:
            kind.lock_for_delete(connection, old, factory.access)
            kind.delete(connection, old, ())
            deleting.set()
            going.wait(0.2)  # the other is under way, and waits

    def make() -> tuple[str, bool]:
        assert deleting.wait(10)
        made = factory.make(kind)
        going.set()
        return made

    gone, made = outcomes([delete, make])

    assert gone is None
    assert made[1]
    assert made[0] != old


def test_the_same_at_once_under_one_key_is_made_once(factory: RecordFactory, kind: RecordTable) -> None:
    if kind is REFERENCES:
        factory.make(EMBEDDINGS)

    made = outcomes([lambda: factory.make(kind, key="k")] * 4)

    assert len({own for own, _ in made}) == 1
    assert sorted(created for _, created in made) == [False, False, False, True]


def test_one_of_two_different_concurrent_requests_with_one_key_is_refused(
    factory: RecordFactory, kind: RecordTable
) -> None:
    if kind is REFERENCES:
        factory.make(EMBEDDINGS)
    before = factory.count(kind)

    answers = outcomes([lambda: factory.make(kind, "a", key="k"), lambda: factory.make(kind, "b", key="k")])

    assert sum(isinstance(answer, KeyReused) for answer in answers) == 1, answers
    assert factory.count(kind) == before + 1


def test_two_at_once_do_not_pass_the_quota_that_has_room_for_one(factory: RecordFactory) -> None:
    numbers = count()
    for kind, size in SIZES.items():
        access = Access(f"owner{next(numbers)}", owner_bytes_limit=size)
        own = replace(factory, access=access)

        answers = outcomes([lambda own=own, kind=kind, name=name: own.make(kind, name) for name in "ab"])  # type: ignore[misc]  # defaults bind the loop's values

        assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 1, answers
        assert len(own.records(kind).page(None, 5).data) == 1


def test_every_table_of_links_and_keys_belongs_to_one_record_table() -> None:
    kinds = (EMBEDDINGS, DATASETS, REFERENCES, MAPS)
    named = {name for name in tables.metadata.tables if name.startswith("job_") or name.endswith("_keys")}
    assert {table.name for each in kinds for table in (each.links, each.keys)} == named - {
        "api_keys",
        "idempotency_keys",
    }
