"""Columns at the address of their content, and in the records of the sets that have them."""

import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from consilience.contract.embeddings import Column, EmbeddingSet, Layer
from consilience.errors import Unavailable
from consilience.stores.blobs import BlobStore, set_digest
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.migrations.upgrade import make_config
from tests.stores.conftest import digest

NAMES = ("b", "a", "ü", "b", '"\\', "\U0001f600")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "data")


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_a_column_comes_back_and_its_address_is_the_hash_of_its_file(blobs: BlobStore, tmp_path: Path) -> None:
    column = blobs.put_column(NAMES)
    assert blobs.read_column(column.digest) == NAMES
    assert column.unique == 5
    (path,) = files(tmp_path)
    assert path.relative_to(tmp_path / "data") == Path("columns") / column.digest[:2] / column.digest
    assert hashlib.sha256(path.read_bytes()).hexdigest() == column.digest
    assert json.loads(path.read_bytes()) == list(NAMES)


def test_equal_columns_are_kept_once_and_order_matters(blobs: BlobStore, tmp_path: Path) -> None:
    first = blobs.put_column(NAMES)
    inode = files(tmp_path)[0].stat().st_ino
    assert blobs.put_column(list(NAMES)) == first
    assert [path.stat().st_ino for path in files(tmp_path)] == [inode]
    assert blobs.put_column(NAMES[::-1]) != first


def test_many_writers_of_the_same_column_all_succeed(blobs: BlobStore, tmp_path: Path) -> None:
    values = [str(i) for i in range(50_000)]
    with ThreadPoolExecutor(8) as pool:
        (column,) = set(pool.map(lambda _: BlobStore(tmp_path / "data").put_column(values), range(16)))
    assert [path.name for path in files(tmp_path)] == [column.digest]


@pytest.mark.parametrize("damage", [b"", b'["x"]', b"["])
def test_a_damaged_column_is_unavailable_and_is_mended_by_the_next_upload(
    blobs: BlobStore, tmp_path: Path, damage: bytes
) -> None:
    column = blobs.put_column(NAMES)
    files(tmp_path)[0].write_bytes(damage)
    with pytest.raises(Unavailable):
        blobs.read_column(column.digest)
    blobs.put_column(NAMES)
    assert blobs.read_column(column.digest) == NAMES


def test_a_column_that_is_not_there_is_unavailable(blobs: BlobStore) -> None:
    with pytest.raises(Unavailable):
        blobs.read_column("0" * 64)


def test_a_column_is_deleted_like_a_layer_once_its_grace_is_over(blobs: BlobStore, tmp_path: Path) -> None:
    column = blobs.put_column(NAMES)
    assert list(blobs.digests()) == [column.digest]
    assert not blobs.delete(column.digest)
    os.utime(files(tmp_path)[0], (time.time() - 11,) * 2)
    assert blobs.delete(column.digest)
    assert list(blobs.digests()) == files(tmp_path) == []


WRITER = """
import resource, signal, sys
from pathlib import Path
from consilience.errors import StorageFull
from consilience.stores.blobs import BlobStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
blobs = BlobStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    blobs.put_column([str(i) for i in range(10_000)])
except StorageFull:
    sys.exit(7)
"""


def test_a_full_disk_leaves_nothing_of_a_column(blobs: BlobStore, tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", WRITER, tmp_path / "data"], check=False)
    assert ran.returncode == 7
    assert files(tmp_path) == []


def test_a_sets_digest_includes_its_columns_and_which_is_which() -> None:
    layer = Layer(name="0", dim=3, dtype="F32", digest=digest("x"))
    one, two = Column(digest=digest("1"), unique=1), Column(digest=digest("2"), unique=1)
    variants = [(None, None), (one, None), (None, one), (two, None), (one, two), (two, one), (one, one)]
    assert len({set_digest([layer], *variant) for variant in variants}) == len(variants)


def add_with(embeddings: EmbeddingRecords, name: str, ids: str = "", groups: str = "") -> EmbeddingSet:
    layer = Layer(name="0", dim=3, dtype="F32", digest=digest("rows"))
    columns = [Column(digest=digest(word), unique=3) if word else None for word in (ids, groups)]
    whole = set_digest([layer], *columns)
    return embeddings.add(name, 5, [layer], whole, {}, 60, ids=columns[0], groups=columns[1])[0]


def test_a_set_comes_back_with_its_columns(embeddings: EmbeddingRecords) -> None:
    added = add_with(embeddings, "x", ids="i", groups="g")
    assert added.ids == Column(digest=digest("i"), unique=3)
    assert embeddings.get(added.id) == added
    assert embeddings.page(None, 5).data == (added,)
    assert add_with(embeddings, "x", groups="g").ids is None


def test_the_same_rows_with_other_ids_are_another_set(embeddings: EmbeddingRecords) -> None:
    variants = [add_with(embeddings, "x", *words) for words in (("", ""), ("i", ""), ("", "i"), ("j", ""), ("i", ""))]
    assert len({each.id for each in variants}) == 4
    assert variants[1] == variants[4]


def test_deleting_a_set_names_the_columns_that_nobody_needs_any_more(embeddings: EmbeddingRecords) -> None:
    one, two = add_with(embeddings, "one", ids="i", groups="g"), add_with(embeddings, "two", ids="g")
    three = add_with(embeddings, "three")
    assert embeddings.delete(one.id) == (digest("i"),)
    assert embeddings.delete(two.id) == (digest("g"),)
    assert embeddings.delete(three.id) == (digest("rows"),)


def test_a_database_of_version_0001_keeps_its_sets(database_url: str) -> None:
    database = Database(database_url)
    with database.write() as connection:
        _go_back_to_0001(connection)
        connection.execute(
            sa.text(
                "INSERT INTO embeddings (id, identity, name, n, digest, source, metadata, bytes, created_at)"
                " VALUES (:id, 'x', 'old', 5, :digest, 'upload', '{}', 60, '2026-11-24 00:00:00')"
            ),
            {"id": "emb_" + "0" * 32, "digest": digest("x")},
        )
    database.migrate()
    old = EmbeddingRecords(database).get("emb_" + "0" * 32)
    assert (old.name, old.ids, old.groups) == ("old", None, None)
    add_with(EmbeddingRecords(database), "new", ids="i")
    database.migrate()
    database.close()


def _go_back_to_0001(connection: sa.Connection) -> None:
    """The tables as version 0.1 made them, by its own migration."""
    for table in reversed(sa.inspect(connection).get_table_names()):
        cascade = "CASCADE" if connection.dialect.name == "postgresql" else ""
        if connection.dialect.name == "sqlite":
            connection.execute(sa.text("PRAGMA defer_foreign_keys = ON"))
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {table} {cascade}"))
    config = make_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")
    columns = {column["name"] for column in sa.inspect(connection).get_columns("embeddings")}
    assert "identity" in columns
    assert "ids_digest" not in columns
