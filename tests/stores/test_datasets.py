"""Datasets in the store: their rows, and their views at the address of their content."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from consilience.contract.datasets import Dataset
from consilience.datasets.scenes import open_scenes
from consilience.errors import BadItem, InUse, KeyReused, NotFound, QuotaExceeded, Unavailable
from consilience.formats.items.item import Item, OpenItems, ViewHeader
from consilience.stores.blobs import BlobStore
from consilience.stores.database import Database
from consilience.stores.datasets import DatasetLabel, DatasetRecords
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import Leases
from consilience.stores.records import Access
from tests.stores.conftest import PLAN

VIEWS = (ViewHeader("text", "text"), ViewHeader("photo", "image"))
AddDataset = Callable[..., Dataset]
UNKNOWN = ["ds_" + "0" * 32, "ds_", "", "emb_" + "0" * 32, "ds_\x00"]


def items(*texts: str) -> OpenItems:
    made = [Item(f"item {text}", (text.encode(), text.encode() * 3)) for text in texts]
    return OpenItems(VIEWS, lambda: iter(made))


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "data")


@pytest.fixture
def datasets(database: Database) -> DatasetRecords:
    return DatasetRecords(database)


@pytest.fixture
def add(blobs: BlobStore, datasets: DatasetRecords) -> AddDataset:
    def add(words: str = "one two three", name: str = "words", key: str | None = None, **metadata: object) -> Dataset:
        views, ids = blobs.put_items(items(*words.split()))
        return datasets.add(DatasetLabel(name, metadata), views, ids, key)[0]

    return add


def test_a_dataset_comes_back_as_it_was_stored(datasets: DatasetRecords, blobs: BlobStore, add: AddDataset) -> None:
    added = add("ein Käse ●", run=7)
    assert datasets.get(added.id) == added
    assert (added.n, added.source, added.metadata) == (3, "upload", {"run": 7})
    assert added.links == {"self": f"/v1/datasets/{added.id}"}
    assert [(view.name, view.kind) for view in added.views] == [("text", "text"), ("photo", "image")]
    opened = blobs.open_dataset(added)
    assert opened.ids == ("item ein", "item Käse", "item ●")
    assert opened.digest == added.digest
    assert opened.view("text").read(0, 3) == ["ein", "Käse", "●"]
    assert opened.view("text").read(1, 2) == ["Käse"]
    assert opened.view("photo").read(1, 9) == ["Käse".encode() * 3, "●".encode() * 3]
    assert opened.view("photo").read(3, 9) == []


def test_the_digest_of_what_is_stored_is_that_of_what_was_made(blobs: BlobStore, datasets: DatasetRecords) -> None:
    made = open_scenes(20)
    values = [made.view(view.name).read(0, 20) for view in made.views]
    encoded = [[one.encode() if isinstance(one, str) else one for one in column] for column in values]
    rows = [Item(name, tuple(row)) for name, *row in zip(made.ids, *encoded, strict=True)]
    views, ids = blobs.put_items(
        OpenItems(tuple(ViewHeader(view.name, view.kind) for view in made.views), lambda: iter(rows))
    )
    stored, _ = datasets.add(DatasetLabel("scenes", {}), views, ids)
    assert stored.digest == made.digest
    assert stored.bytes == sum(len(one) for column in encoded for one in column)


def test_equal_content_and_label_is_one_dataset_and_another_label_shares_blobs(
    blobs: BlobStore, add: AddDataset
) -> None:
    first = add()
    assert add() == first
    others = [add(name="other"), add(run=1)]
    assert len({first.id, *(other.id for other in others)}) == 3
    assert {other.digest for other in others} == {first.digest}
    assert add("one two").digest != first.digest
    assert len(list(blobs.digests())) == 6


def test_the_same_upload_at_the_same_time_is_one_dataset(datasets: DatasetRecords, add: AddDataset) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(add().id)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(ids), len(set(ids)), len(datasets.page(None, 10).data)) == (6, 1, 1)


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_id_is_not_found(datasets: DatasetRecords, jobs: JobRecords, unknown: str) -> None:
    for look in (datasets.get, datasets.delete):
        with pytest.raises(NotFound, match="no such dataset"):
            look(unknown)
    with pytest.raises(NotFound, match="no such dataset"):
        jobs.add("alignment", {}, PLAN, (), datasets=(unknown.replace("\x00", ""),))


def test_pages_go_through_all_datasets_newest_first(datasets: DatasetRecords, add: AddDataset) -> None:
    added = [add(word).id for word in ["a", "b", "c", "d", "e"]]
    first = datasets.page(None, 2)
    second = datasets.page(first.next_cursor, 2)
    third = datasets.page(second.next_cursor, 2)
    assert [each.id for page in (first, second, third) for each in page.data] == added[::-1]
    assert not third.has_more
    assert [each.name for each in datasets.page(None, 9, "nothing").data] == []


def test_a_dataset_stays_as_long_as_an_unfinished_job_uses_it(
    datasets: DatasetRecords, jobs: JobRecords, leases: Leases, add: AddDataset
) -> None:
    dataset = add()
    job = jobs.add("alignment", {}, PLAN, (), datasets=(dataset.id, dataset.id)).job
    for change in (lambda: None, lambda: leases.claim(job.id, 1, "w"), lambda: jobs.request_cancel(job.id)):
        change()
        with pytest.raises(InUse, match=job.id):
            datasets.delete(dataset.id)
    leases.canceled(job.id, 1)
    assert set(datasets.delete(dataset.id)) == {dataset.ids.digest, *(view.digest for view in dataset.views)}


def test_blobs_that_another_dataset_shares_are_not_given_back(datasets: DatasetRecords, add: AddDataset) -> None:
    dataset, _ = add(), add(name="other")
    assert datasets.delete(dataset.id) == ()


def test_an_idempotency_key_stands_for_one_upload(add: AddDataset) -> None:
    first = add(key="run-1")
    assert add(key="run-1") == first
    with pytest.raises(KeyReused):
        add("something else", key="run-1")


def test_datasets_of_another_owner_are_not_found(database: Database, blobs: BlobStore, add: AddDataset) -> None:
    dataset = add()
    other = DatasetRecords(database, Access(owner="bob"))
    with pytest.raises(NotFound):
        other.get(dataset.id)
    with pytest.raises(NotFound):
        other.delete(dataset.id)
    assert other.page(None, 10).data == ()
    own, created = other.add(DatasetLabel("words", {}), *blobs.put_items(items("one", "two", "three")))
    assert (created, own.owner, own.digest) == (True, "bob", dataset.digest)
    with pytest.raises(NotFound):
        JobRecords(database, Access(owner="bob")).add("alignment", {}, PLAN, (), datasets=(dataset.id,))


def test_datasets_and_sets_share_one_quota(database: Database, blobs: BlobStore) -> None:
    access = Access(owner="ana", owner_bytes_limit=100)
    records = DatasetRecords(database, access)
    records.add(DatasetLabel("a", {}), *blobs.put_items(items("x" * 20)))
    assert records.quota_left() == 20
    with pytest.raises(QuotaExceeded, match="160 bytes; the limit is 100"):
        records.add(DatasetLabel("b", {}), *blobs.put_items(items("y" * 20)))


def test_a_builtin_dataset_is_found_before_it_is_made_again(datasets: DatasetRecords, blobs: BlobStore) -> None:
    label = DatasetLabel("scenes", {"builtin": "scenes:n=1"}, "scenes:n=1, generation 1")
    assert datasets.find_builtin(label) is None
    stored, _ = datasets.add(label, *blobs.put_items(items("x")))
    assert stored.source == "builtin"
    assert datasets.find_builtin(label) == stored
    assert datasets.find_builtin(label._replace(builtin="scenes:n=2, generation 1")) is None


def test_nothing_is_left_of_items_that_turn_out_bad(blobs: BlobStore, tmp_path: Path) -> None:
    def read() -> object:
        yield Item("a", (b"x", b"y"))
        raise BadItem("The second is bad.")

    with pytest.raises(BadItem):
        blobs.put_items(OpenItems(VIEWS, read))  # type: ignore[arg-type]  # a generator of items is an iterator of them
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file()] == []


def test_a_view_cut_short_or_damaged_is_no_answer(blobs: BlobStore, add: AddDataset) -> None:
    dataset = add()
    path = blobs.locate(dataset.views[0].digest)
    assert path is not None
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(Unavailable, match="bytes instead of"):
        blobs.open_view(dataset.views[0], 3)
    for damaged in (whole[:-16] + b"\xff" * 16, b"\xff" * 11 + whole[11:]):
        path.write_bytes(damaged)
        view = blobs.open_view(dataset.views[0], 3)
        assert not view.is_intact()
        with pytest.raises(Unavailable, match="damaged"):
            view.read(0, 3)
    path.write_bytes(whole)
    assert blobs.open_view(dataset.views[0], 3).is_intact()
