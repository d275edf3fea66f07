"""The examination finds whatever is broken, and nothing where all is well."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from consilience.contract.datasets import Dataset
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Progress
from consilience.contract.scores import ScoreDocument
from consilience.errors import JobCrashed, StartupError
from consilience.formats.files import from_vectors
from consilience.formats.items.item import Item, OpenItems, ViewHeader
from consilience.stores import tables
from consilience.stores.blobs import BlobStore, set_digest
from consilience.stores.database import Database
from consilience.stores.datasets import DatasetLabel, DatasetRecords
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.integrity import IntegrityReport, check_integrity
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import Leases, describe_failure
from consilience.stores.webhooks import Outbox
from tests.stores.conftest import PLAN

HOOK = {"webhook": {"url": "https://example.com/"}}
DIED = describe_failure(JobCrashed("It died."))


ITEMS = OpenItems((ViewHeader("text", "text"),), lambda: iter([Item("a", (b"one",)), Item("b", (b"two",))]))


class World(NamedTuple):
    """A database and a folder in which everything has happened that can."""

    url: str
    folder: Path
    database: Database
    blobs: BlobStore
    stored: EmbeddingSet
    dataset: Dataset
    queued: str
    running: str
    succeeded: str
    failed: str

    def examine(self, *, deep: bool = False, grace_s: float = 3600.0) -> IntegrityReport:
        return check_integrity(self.url, self.folder, deep=deep, grace_s=grace_s)

    def kinds(self, *, deep: bool = False) -> set[str]:
        return {issue.kind for issue in self.examine(deep=deep).issues}

    def change(self, table: sa.Table, row_id: str, **values: object) -> None:
        with self.database.write() as connection:
            key = next(iter(table.primary_key.columns))
            connection.execute(sa.update(table).where(key == row_id).values(**values))

    def age(self, seconds: float) -> None:
        for path in self.folder.rglob("*"):
            os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def world(database_url: str, database: Database, tmp_path: Path, score: ScoreDocument) -> World:
    folder = tmp_path / "data"
    blobs, jobs, leases, outbox = BlobStore(folder), JobRecords(database), Leases(database), Outbox(database)
    layers = blobs.put(from_vectors([[float(row), 1.0] for row in range(5)]))
    ids = blobs.put_column([str(row) for row in range(5)])
    stored, _ = EmbeddingRecords(database).add("docs", 5, layers, set_digest(layers, ids), {}, 40, ids=ids)
    views, names = blobs.put_items(ITEMS)
    dataset, _ = DatasetRecords(database).add(DatasetLabel("words", {}), views, names)
    made = [jobs.add("alignment", HOOK, PLAN, (stored.id,), datasets=(dataset.id,)).job.id for _ in range(6)]
    queued, running, succeeded, failed, canceled, crashed = made
    for job_id in (running, succeeded, failed, crashed):
        leases.claim(job_id, 1, "w")
    leases.progress(running, 1, Progress(stage="scoring", done=1, total=2))
    leases.succeed(succeeded, 1, score)
    leases.fail(failed, 1, DIED)
    jobs.request_cancel(canceled)
    leases.crashed(crashed, 1, DIED, 3)
    jobs.request_cancel(running)
    while message := outbox.claim(100):
        outbox.delivered(message.message_id)
    return World(database_url, folder, database, blobs, stored, dataset, queued, running, succeeded, failed)


@pytest.mark.parametrize("deep", [False, True])
def test_an_intact_store_has_no_issues(world: World, deep: bool) -> None:
    assert world.examine(deep=deep) == IntegrityReport(jobs=6, sets=1, datasets=1, blobs=4, issues=())


def layer_path(world: World) -> Path:
    path = world.blobs.locate(world.stored.layers[0].digest)
    assert path is not None
    return path


def column_path(world: World) -> Path:
    assert world.stored.ids is not None
    path = world.blobs.locate(world.stored.ids.digest)
    assert path is not None
    return path


def view_path(world: World) -> Path:
    path = world.blobs.locate(world.dataset.views[0].digest)
    assert path is not None
    return path


def names_path(world: World) -> Path:
    path = world.blobs.locate(world.dataset.ids.digest)
    assert path is not None
    return path


@pytest.mark.parametrize(
    ("find", "kind"),
    [
        (layer_path, "damaged-layer"),
        (column_path, "damaged-column"),
        (view_path, "damaged-view"),
        (names_path, "damaged-column"),
    ],
)
def test_a_blob_that_is_missing_is_found(world: World, find: Callable[[World], Path], kind: str) -> None:
    find(world).unlink()
    report = world.examine()
    (issue,) = report.issues
    owner = world.stored if find in {layer_path, column_path} else world.dataset
    assert (issue.severity, issue.kind, issue.subject) == ("error", kind, owner.id)
    assert not report.passed


def test_a_layer_cut_short_is_found_by_its_size(world: World) -> None:
    path = layer_path(world)
    path.write_bytes(path.read_bytes()[:-1])
    (issue,) = world.examine().issues
    assert issue.detail.endswith("The file of a stored layer has 39 bytes instead of 40.")


@pytest.mark.parametrize(
    ("find", "kind"), [(layer_path, "damaged-layer"), (column_path, "damaged-column"), (view_path, "damaged-view")]
)
def test_a_flipped_bit_is_found_by_a_deep_check(world: World, find: Callable[[World], Path], kind: str) -> None:
    path = find(world)
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    assert world.kinds() == set()
    assert world.kinds(deep=True) == {kind}


def test_a_half_of_a_blob_under_another_name_is_found(world: World) -> None:
    (layer_path(world).parent / "half").write_bytes(b"x")
    (world.folder / "layers" / "zz").mkdir()
    (world.folder / "layers" / "zz" / ("a" * 64)).write_bytes(b"x")
    assert [issue.kind for issue in world.examine().issues] == ["stray-file"] * 2


def test_old_unreferenced_blobs_are_warnings(world: World) -> None:
    world.blobs.put(from_vectors([[float(row)] for row in range(5)]))
    (world.folder / "incoming" / "left").write_bytes(b"x")
    assert world.examine().issues == ()
    world.age(4000)
    report = world.examine()
    assert {(issue.severity, issue.kind) for issue in report.issues} == {
        ("warning", "unreferenced-blob"),
        ("warning", "stale-upload"),
    }
    assert report.passed
    assert report.blobs == 5


@pytest.mark.parametrize(
    ("job", "changes", "kinds"),
    [
        ("queued", {"status": "lost"}, {"unknown-status"}),
        ("succeeded", {"finished_at": None}, {"missing-finish-time"}),
        ("queued", {"finished_at": datetime.now(UTC)}, {"unexpected-finish-time"}),
        ("succeeded", {"result": None}, {"missing-result"}),
        ("failed", {"result": {}}, {"unexpected-result"}),
        ("failed", {"error": None}, {"missing-error"}),
        ("succeeded", {"error": {}}, {"unexpected-error"}),
        ("queued", {"cancel_requested": True}, {"unexpected-cancel-request"}),
        ("queued", {"started_at": datetime.now(UTC)}, {"unexpected-start-time"}),
        ("queued", {"delivery": 0}, {"invalid-counter"}),
        ("queued", {"status": "running"}, {"missing-run"}),
        ("running", {"delivery": 7}, {"missing-run", "unfinished-run"}),
        ("running", {"status": "queued", "cancel_requested": False, "started_at": None}, {"unfinished-run"}),
    ],
)
def test_a_row_that_cannot_be_is_found(world: World, job: str, changes: dict[str, object], kinds: set[str]) -> None:
    world.change(tables.jobs, getattr(world, job), **changes)
    assert world.kinds() == kinds


@pytest.mark.parametrize(("table", "kind"), [(tables.embeddings, "set"), (tables.datasets, "dataset")])
def test_an_unfinished_job_that_lost_what_it_needs_is_found(world: World, table: sa.Table, kind: str) -> None:
    with world.database.write() as connection:
        connection.execute(sa.delete(table))
    assert world.kinds() == {f"missing-{kind}"}


@pytest.mark.parametrize(("uses", "kind"), [(tables.job_references, "reference"), (tables.job_maps, "map")])
def test_an_unfinished_job_that_needs_what_never_was_is_found(world: World, uses: sa.Table, kind: str) -> None:
    with world.database.write() as connection:
        connection.execute(sa.insert(uses).values({f"{kind}_id": "unknown", "job_id": world.queued}))
    assert world.kinds() == {f"missing-{kind}"}


def test_a_dataset_without_views_is_found(world: World) -> None:
    with world.database.write() as connection:
        connection.execute(sa.delete(tables.dataset_views))
    assert world.kinds() == {"missing-views"}


def test_a_set_without_layers_is_found(world: World) -> None:
    with world.database.write() as connection:
        connection.execute(sa.delete(tables.layers))
    assert world.kinds() == {"missing-layers"}


@pytest.mark.parametrize(
    ("job", "changes", "kind"),
    [
        ("succeeded", {"delivered_at": None}, "unscheduled-webhook"),
        ("queued", {"due_at": datetime.now(UTC)}, "unexpected-webhook"),
        ("failed", {"delivered_at": None, "due_at": datetime.now(UTC) - timedelta(hours=2)}, "overdue-webhook"),
    ],
)
def test_an_unscheduled_webhook_is_found(world: World, job: str, changes: dict[str, object], kind: str) -> None:
    world.change(tables.webhooks, getattr(world, job), **changes)
    assert world.kinds() == {kind}


def test_an_expired_job_that_is_there_is_found(world: World) -> None:
    now = datetime.now(UTC)
    with world.database.write() as connection:
        row = {"id": world.failed, "owner": "default", "finished_at": now, "expired_at": now}
        connection.execute(sa.insert(tables.expired_jobs).values(row))
    assert world.kinds() == {"expired-job"}


def test_another_schema_is_the_only_issue(world: World) -> None:
    with world.database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    report = world.examine()
    assert ([issue.kind for issue in report.issues], report.passed) == (["schema-mismatch"], False)


def test_a_set_that_is_deleted_meanwhile_is_not_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from consilience.stores import integrity

    def check_set_after_its_deletion(*args: object, **options: object) -> list[object]:
        with world.database.write() as connection:
            connection.execute(sa.delete(tables.jobs))
            connection.execute(sa.delete(tables.embeddings))
        layer_path(world).unlink()
        return list(real(*args, **options))  # type: ignore[arg-type]  # passed on as it came

    real = integrity.check_set
    monkeypatch.setattr(integrity, "check_set", check_set_after_its_deletion)
    assert {issue.severity for issue in world.examine().issues} <= {"warning"}


def test_a_path_without_a_data_folder_is_refused_and_stays_unchanged(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(StartupError, match="is not a data folder: it "):
            check_integrity(f"sqlite:///{folder}/consilience.db", folder)
    BlobStore(tmp_path / "data")
    with pytest.raises(StartupError, match="does not exist"):
        check_integrity(f"sqlite:///{tmp_path}/data/consilience.db", tmp_path / "data")
    assert [path.name for path in tmp_path.rglob("*.db")] == []
    assert list((tmp_path / "empty").iterdir()) == []
