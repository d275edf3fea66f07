"""Maps in the store: whole or not at all, once, with their weights, seen by their owner."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from consilience.errors import InvalidRequest, KeyReused, NotFound, QuotaExceeded, Unavailable
from consilience.formats.map_files import MapFile
from consilience.maps.api import fit_map
from consilience.stores.blobs import BlobStore
from consilience.stores.database import Database
from consilience.stores.integrity import check_maps
from consilience.stores.maps import MapRecords
from consilience.stores.records import Access
from consilience.stores.retention import Retention

ROWS = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
FILE = fit_map(ROWS, ROWS[:, :4], map={"kind": "low_rank", "rank": 2}).file()
OTHER = fit_map(ROWS, ROWS[:, :3], map="ridge").file()
UNKNOWN = "map_" + "0" * 32


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


@pytest.fixture
def maps(database: Database, blobs: BlobStore) -> MapRecords:
    return MapRecords(database, blobs)


def equal(a: MapFile, b: MapFile) -> bool:
    return a.card == b.card and all(np.array_equal(a.tensors[name], b.tensors[name]) for name in b.tensors)


def test_a_map_comes_back_with_its_weights(maps: MapRecords) -> None:
    stored, created = maps.add("mine", FILE)
    assert created
    assert (stored.name, stored.model_card, stored.bytes) == ("mine", FILE.card, 4 * (5 * 2 + 2 + 2 * 4 + 4))
    assert maps.get(stored.id) == stored
    again, file = maps.open(stored.id)
    assert again == stored
    assert equal(file, FILE)


def test_the_same_map_is_kept_once_and_another_name_is_another(maps: MapRecords) -> None:
    first, _ = maps.add("mine", FILE)
    assert maps.add("mine", FILE) == (first, False)
    assert maps.add("yours", FILE)[1]


def test_a_job_that_is_run_again_finds_its_map(maps: MapRecords) -> None:
    first, _ = maps.add("mine", FILE, job_id="job_1")
    again, created = maps.add("mine", OTHER, job_id="job_1")  # timings differ from run to run
    assert (again, created) == (first, False)
    assert maps.add("mine", FILE, job_id="job_2")[1]


def test_a_key_stands_for_one_map(maps: MapRecords) -> None:
    first, _ = maps.add("mine", FILE, idempotency_key="k")
    assert maps.add("mine", FILE, idempotency_key="k")[0] == first
    with pytest.raises(KeyReused):
        maps.add("mine", OTHER, idempotency_key="k")


def test_maps_are_listed_newest_first_and_by_name(maps: MapRecords) -> None:
    a, b = maps.add("a", FILE)[0], maps.add("b", OTHER)[0]
    page = maps.page(None, 1)
    assert (page.data, page.has_more) == ((b,), True)
    assert maps.page(page.next_cursor, 5).data == (a,)
    assert maps.page(None, 5, name="a").data == (a,)
    with pytest.raises(InvalidRequest):
        maps.page("nonsense", 5)


def test_another_owner_sees_nothing_and_keeps_its_own(database: Database, blobs: BlobStore) -> None:
    ana, bob = (MapRecords(database, blobs, Access(owner)) for owner in ("ana", "bob"))
    hers, _ = ana.add("mine", FILE)
    his, created = bob.add("mine", FILE)
    assert created
    assert bob.page(None, 5).data == (his,)
    for call in (bob.get, bob.open, bob.delete):
        with pytest.raises(NotFound):
            call(hers.id)


def test_a_quota_counts_maps(database: Database, blobs: BlobStore) -> None:
    maps = MapRecords(database, blobs, Access("ana", owner_bytes_limit=100))
    maps.add("mine", FILE)
    with pytest.raises(QuotaExceeded):
        maps.add("more", OTHER)
    assert len(maps.page(None, 5).data) == 1


def test_weights_go_with_the_last_map_that_names_them(maps: MapRecords, blobs: BlobStore, database: Database) -> None:
    a, b = maps.add("a", FILE)[0], maps.add("b", FILE)[0]
    (digest,) = blobs.digests()
    assert Retention(database).find_referenced({digest}) == {digest}
    assert maps.delete(a.id) == ()
    assert maps.delete(b.id) == (digest,)
    assert Retention(database).find_referenced({digest}) == set()
    for map_id in (a.id, UNKNOWN, "map_x", "emb_" + "0" * 32):
        with pytest.raises(NotFound, match="no such map"):
            maps.get(map_id)


def test_weights_that_are_missing_or_damaged_are_told_and_found_by_the_doctor(
    maps: MapRecords, blobs: BlobStore
) -> None:
    stored, _ = maps.add("mine", FILE)
    assert list(check_maps(maps, deep=True)) == []
    path = blobs.locate(next(blobs.digests()))
    assert path is not None
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x7f")
    assert list(check_maps(maps, deep=False)) == []
    for damage in (whole[:-1] + b"\x7f", whole[:-4], None):
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        with pytest.raises(Unavailable):
            maps.open(stored.id)
        (issue,) = check_maps(maps, deep=True)
        assert (issue.kind, issue.subject) == ("damaged-map", stored.id)


def test_a_map_that_cannot_be_written_leaves_no_record(maps: MapRecords, blobs: BlobStore) -> None:
    broken = replace(FILE, tensors={**FILE.tensors, "0.bias": np.array([np.nan, 0], np.float32)})
    with pytest.raises(Exception, match="NaN"):
        maps.add("mine", broken)
    assert maps.page(None, 5).data == ()
    assert list(blobs.digests()) == []
