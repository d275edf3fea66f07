"""What a worker makes of stored sets."""

from pathlib import Path

import numpy as np
import pytest

from consilience.contract.embeddings import EmbeddingSet
from consilience.errors import Unavailable
from consilience.execution import open_set
from consilience.formats.files import from_vectors
from consilience.stores.blobs import Blobs, set_digest
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)
NAMES = tuple("abcdef")


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "data")


@pytest.fixture
def stored(blobs: Blobs, sqlite_url: str) -> EmbeddingSet:
    """A set with ids and groups, as the service stores it."""
    layers = blobs.put(from_vectors(ROWS.tolist()))
    ids, groups = blobs.put_column(NAMES), blobs.put_column(("x", "y") * 3)
    database = Database(sqlite_url)
    digest = set_digest(layers, ids, groups)
    found, _ = EmbeddingRecords(database).add("docs", 6, layers, digest, {}, ROWS.nbytes, ids=ids, groups=groups)
    database.close()
    return found


def test_a_stored_set_is_a_side_with_its_columns(stored: EmbeddingSet, blobs: Blobs) -> None:
    side = open_set(stored, blobs, with_ids=True)
    assert (side.ids, side.groups) == (NAMES, ("x", "y") * 3)
    assert (side.id, side.name, side.n) == (stored.id, "docs", 6)


def test_ids_are_read_only_where_they_are_asked_for(stored: EmbeddingSet, blobs: Blobs) -> None:
    assert open_set(stored, blobs, with_ids=False).ids is None


def test_ids_that_are_lost_are_an_error_and_not_a_pairing_without_them(stored: EmbeddingSet, blobs: Blobs) -> None:
    assert stored.ids
    assert blobs.delete(stored.ids.digest, grace_s=0)
    with pytest.raises(Unavailable):
        open_set(stored, blobs, with_ids=True)
