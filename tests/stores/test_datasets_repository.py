"""Datasets as they are kept: within the quota, and built in ones once."""

from pathlib import Path

import pytest

from consilience.contract.datasets import BuiltinRequest
from consilience.datasets.builtin import open_dataset
from consilience.errors import BadItem, KeyReused, NotFound, QuotaExceeded
from consilience.formats.items.item import Item, OpenItems, ViewHeader
from consilience.stores.blobs import BlobStore
from consilience.stores.database import Database
from consilience.stores.datasets import DatasetLabel, DatasetRecords, DatasetRepository
from consilience.stores.records import Access

SCENES = BuiltinRequest(builtin="scenes:n=3")


@pytest.fixture
def repository(database: Database, tmp_path: Path) -> DatasetRepository:
    return DatasetRepository(DatasetRecords(database, Access(owner_bytes_limit=300_000)), BlobStore(tmp_path), tmp_path)


def test_items_beyond_the_quota_are_given_up_in_their_midst_and_leave_nothing(
    repository: DatasetRepository, tmp_path: Path
) -> None:
    seen = []

    def read() -> object:
        for number in range(1000):
            seen.append(number)
            yield Item(str(number), (b"x" * 10_000,))

    items = OpenItems((ViewHeader("text", "text"),), read)  # type: ignore[arg-type]  # a generator of items is an iterator of them
    with pytest.raises(QuotaExceeded, match="exceed the 300000 bytes"):
        repository.add(items, DatasetLabel("words", {}))
    assert len(seen) == 31
    assert [*repository.blobs.digests(), *(tmp_path / "incoming").iterdir()] == []


def test_a_builtin_dataset_is_made_once_and_is_what_the_library_makes(repository: DatasetRepository) -> None:
    assert repository.find_builtin("scenes:n=3") is None
    made, created = repository.add_builtin(SCENES)
    assert (created, made.digest) == (True, open_dataset("scenes:n=3").digest)
    assert repository.add_builtin(SCENES) == (made, False)
    assert repository.find_builtin("scenes:seed=0,n=3") == made
    assert repository.find_builtin("scenes:n=4") is None


def test_another_choice_or_label_of_it_is_another_dataset(repository: DatasetRepository) -> None:
    made, _ = repository.add_builtin(SCENES)
    chosen, _ = repository.add_builtin(SCENES.model_copy(update={"ids": ("scene-000002",)}))
    named, _ = repository.add_builtin(SCENES.model_copy(update={"name": "mine", "metadata": {"run": 1}}))
    assert len({made.id, chosen.id, named.id}) == 3
    assert (chosen.n, named.digest, named.metadata["run"]) == (1, made.digest, 1)


def test_a_key_stands_for_what_was_made_with_it(repository: DatasetRepository) -> None:
    made, _ = repository.add_builtin(SCENES, "key")
    assert repository.add_builtin(SCENES, "key") == (made, False)
    with pytest.raises(KeyReused):
        repository.add_builtin(BuiltinRequest(builtin="scenes:n=2"), "key")


def test_unknown_builtin_datasets_and_items_are_refused(repository: DatasetRepository) -> None:
    with pytest.raises(NotFound):
        repository.add_builtin(BuiltinRequest(builtin="imagenet"))
    with pytest.raises(BadItem, match="no item 'x'"):
        repository.add_builtin(SCENES.model_copy(update={"ids": ("x",)}))
