"""Layers at the address of their content: whole or not there, under crashes, full disks and crowds."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from consilience.contract.embeddings import Layer
from consilience.errors import NonFiniteValues, StorageFull, Unavailable
from consilience.formats.files import from_vectors, open_path
from consilience.formats.open_file import Array, OpenFile
from consilience.stores.blobs import BlobStore, set_digest

ROWS = np.random.default_rng(0).standard_normal((5000, 300)).astype("f4")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "data")


def put(blobs: BlobStore, tmp_path: Path, array: Array, name: str = "a.npy") -> tuple[Layer, ...]:
    np.save(tmp_path / name, array)
    with open_path(tmp_path / name) as file:
        return blobs.put(file)


def with_reader(file: OpenFile, read: Callable[[], Iterator[Array]]) -> OpenFile:
    """The same file, read in another way."""
    return replace(file, tensors=(replace(file.tensors[0], read=read),))


def left_over(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def age(tmp_path: Path, seconds: float) -> None:
    for path in left_over(tmp_path):
        os.utime(path, (time.time() - seconds,) * 2)


def test_a_layer_comes_back_bit_for_bit_in_any_blocks(blobs: BlobStore, tmp_path: Path) -> None:
    (layer,) = put(blobs, tmp_path, ROWS)
    stored = blobs.open(layer, 5000)
    assert (stored.name, stored.n, stored.dim, stored.dtype, stored.digest) == ("0", 5000, 300, "F32", layer.digest)
    np.testing.assert_array_equal(stored.rows(0, 5000), ROWS)
    np.testing.assert_array_equal(stored.rows(4990, 6000), ROWS[4990:])
    assert stored.rows(7, 7).shape == (0, 300)


def test_every_dtype_that_is_kept_comes_back(blobs: BlobStore, tmp_path: Path) -> None:
    arrays: dict[str, Array] = {
        "F16": ROWS.astype("f2"),
        "BF16": ROWS.astype(ml_dtypes.bfloat16),
        "F32": ROWS,
        "F64": ROWS.astype("f8"),
    }
    save_file(arrays, tmp_path / "a.safetensors")
    with open_path(tmp_path / "a.safetensors") as file:
        layers = {layer.name: layer for layer in blobs.put(file)}
    for name, array in arrays.items():
        kept = array.astype("f4") if name == "F64" else array
        assert layers[name].dtype == ("F32" if name == "F64" else name)
        assert blobs.open(layers[name], 5000).rows(10, 20).tobytes() == kept[10:20].tobytes()
    assert layers["F64"].digest == layers["F32"].digest
    assert len(list(blobs.digests())) == 3


def test_the_digest_is_of_the_header_line_and_the_raw_bytes(blobs: BlobStore, tmp_path: Path) -> None:
    (layer,) = put(blobs, tmp_path, ROWS)
    expected = hashlib.sha256(b'{"dtype":"F32","shape":[5000,300]}\n' + ROWS.tobytes()).hexdigest()
    assert layer.digest == expected
    assert (tmp_path / "data" / "layers" / expected[:2] / expected).read_bytes() == ROWS.tobytes()


def test_memory_order_and_file_format_do_not_change_the_digest(blobs: BlobStore, tmp_path: Path) -> None:
    stacked = ROWS[:, None, :]
    variants = [ROWS, np.asfortranarray(ROWS), ROWS.astype(">f4"), ROWS.astype("f8"), stacked]
    assert len({put(blobs, tmp_path, variant)[0].digest for variant in variants}) == 1


def test_the_same_rows_in_another_shape_are_another_layer(blobs: BlobStore, tmp_path: Path) -> None:
    assert put(blobs, tmp_path, ROWS)[0].digest != put(blobs, tmp_path, ROWS.reshape(2500, 600))[0].digest


def test_a_sets_digest_is_of_names_and_contents_in_order(blobs: BlobStore, tmp_path: Path) -> None:
    one, two = put(blobs, tmp_path, np.stack([ROWS, -ROWS], axis=1))
    expected = hashlib.sha256(json.dumps([["0", one.digest], ["1", two.digest]], separators=(",", ":")).encode())
    assert set_digest([one, two]) == expected.hexdigest()
    assert set_digest([two, one]) != set_digest([one, two])


def test_content_that_is_there_is_kept_once_and_not_written_again(blobs: BlobStore, tmp_path: Path) -> None:
    (layer,) = put(blobs, tmp_path, ROWS)
    path = blobs.open(layer, 5000).path
    inode = path.stat().st_ino
    assert put(blobs, tmp_path, np.stack([ROWS, ROWS], axis=1))[1].digest == layer.digest
    assert path.stat().st_ino == inode
    assert left_over(tmp_path) == [path]


def test_a_blob_that_was_cut_short_is_written_anew(blobs: BlobStore, tmp_path: Path) -> None:
    (layer,) = put(blobs, tmp_path, ROWS)
    path = blobs.open(layer, 5000).path
    path.write_bytes(b"cut")
    with pytest.raises(Unavailable):
        blobs.open(layer, 5000)
    put(blobs, tmp_path, ROWS)
    np.testing.assert_array_equal(blobs.open(layer, 5000).rows(0, 5000), ROWS)


def test_a_set_of_more_layers_than_a_process_may_have_files_is_put(blobs: BlobStore, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        layers = put(blobs, tmp_path, np.arange(8000, dtype="f4").reshape(4, 1000, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(layers) == len(list(blobs.digests())) == 1000


def test_a_bad_value_in_the_last_row_of_the_last_layer_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    array = np.stack([ROWS, ROWS], axis=1)
    array[-1, -1, -1] = np.nan
    with pytest.raises(NonFiniteValues, match="NaN"):
        put(blobs, tmp_path, array)
    assert left_over(tmp_path) == []


def test_many_writers_of_the_same_content_all_succeed(blobs: BlobStore, tmp_path: Path) -> None:
    def write(number: int) -> str:
        return put(BlobStore(tmp_path / "data"), tmp_path, ROWS, f"{number}.npy")[0].digest

    with ThreadPoolExecutor(8) as pool:
        (digest,) = set(pool.map(write, range(24)))
    assert [path.name for path in left_over(tmp_path)] == [digest]


def test_a_delete_beside_an_upload_of_the_same_content_never_takes_the_new_layer(
    blobs: BlobStore, tmp_path: Path
) -> None:
    (layer,) = put(blobs, tmp_path, ROWS)
    done = threading.Event()

    def delete_old() -> None:
        while not done.is_set():
            blobs.delete(layer.digest, grace_s=5)

    with ThreadPoolExecutor(1) as pool:
        deletions = pool.submit(delete_old)
        for _ in range(30):
            age(tmp_path, 60)
            put(blobs, tmp_path, ROWS)
            np.testing.assert_array_equal(blobs.open(layer, 5000).rows(4999, 5000), ROWS[-1:])
        done.set()
        deletions.result()


def test_a_layer_is_deleted_once_its_grace_is_over(blobs: BlobStore, tmp_path: Path) -> None:
    (layer,) = put(blobs, tmp_path, ROWS)
    assert not blobs.delete(layer.digest)
    age(tmp_path, 11)
    assert blobs.delete(layer.digest)
    assert not blobs.delete(layer.digest)
    assert list(blobs.digests()) == []
    with pytest.raises(Unavailable):
        blobs.open(layer, 5000)


def test_an_upload_is_read_by_its_path_and_gone_afterwards(blobs: BlobStore, tmp_path: Path) -> None:
    with blobs.incoming() as upload:
        assert upload.write(b"abc") == 3
        upload.write(b"def")
        assert upload.path.read_bytes() == b"abcdef"
        assert upload.size == 6
    with pytest.raises(ZeroDivisionError), blobs.incoming():
        raise ZeroDivisionError
    assert left_over(tmp_path) == []


def test_files_are_for_this_user_alone(blobs: BlobStore, tmp_path: Path) -> None:
    put(blobs, tmp_path, ROWS)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "data").rglob("*")} == {0}


def test_a_sweep_takes_what_is_old_and_leaves_uploads_under_way(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "data" / "incoming" / "stale").touch()
    age(tmp_path, 100)
    with blobs.incoming() as upload:
        assert blobs.sweep(50) == 1
        assert left_over(tmp_path) == [upload.path]


def test_an_upload_that_was_swept_away_fails_and_is_not_published_in_part(blobs: BlobStore, tmp_path: Path) -> None:
    def read() -> Iterator[Array]:
        yield ROWS[:2000]
        blobs.sweep(0)
        yield ROWS[2000:]

    with pytest.raises(Unavailable):
        blobs.put(with_reader(from_vectors(ROWS.tolist()), read))
    assert left_over(tmp_path) == []


def test_a_store_that_can_be_written_to_is_ready(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.check()
    assert left_over(tmp_path) == []


def test_a_store_whose_folder_is_gone_is_not_ready(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "data" / "incoming").rmdir()
    with pytest.raises(Unavailable):
        blobs.check()


def test_a_store_cannot_be_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(Unavailable):
        BlobStore(tmp_path / "data")


FULL = """
import resource
import sys
from pathlib import Path
from consilience.errors import StorageFull
from consilience.formats.files import open_path
from consilience.stores.blobs import BlobStore

blobs = BlobStore(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

def attempt(action):
    try:
        action()
    except StorageFull as error:
        print("full:", error.value)

def upload():
    with blobs.incoming() as file:
        file.write(bytes(2_000_000))

with open_path(sys.argv[2]) as file:
    attempt(lambda: blobs.put(file))
attempt(upload)
"""


def test_without_room_everything_is_refused_and_nothing_is_left(blobs: BlobStore, tmp_path: Path) -> None:
    """The limit on a file's size stands for a full disk: it needs no rights."""
    np.save(tmp_path / "a.npy", ROWS)
    command = [sys.executable, "-c", FULL, str(tmp_path / "data"), str(tmp_path / "a.npy")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path.cwd())
    assert done.stdout.splitlines() == ["full: File too large"] * 2
    assert left_over(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting needs root; the test above covers the same with a limit on a file's size")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_refuses_and_takes_again_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    blobs = BlobStore(small_disk)
    with pytest.raises(StorageFull) as caught:
        put(blobs, tmp_path, ROWS)
    assert caught.value.retryable
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []
    (small_disk / "other").write_bytes(bytes(4 * 1024 * 1024 - 8192))
    with blobs.incoming() as upload:
        upload.write(bytes(8192))
        with pytest.raises(Unavailable):
            blobs.check()
    (small_disk / "other").unlink()
    put(blobs, tmp_path, ROWS[:1000])
    blobs.check()


KILLED = """
import sys, time
from dataclasses import replace
from pathlib import Path
from consilience.formats.files import from_vectors
from consilience.stores.blobs import BlobStore

def read():
    yield from file.tensors[0].read()
    print("written", flush=True)
    time.sleep(60)

file = from_vectors([[1.0, 2.0]] * 4)
BlobStore(Path(sys.argv[1])).put(replace(file, tensors=(replace(file.tensors[0], read=read),)))
"""


def test_a_process_killed_before_it_publishes_leaves_only_what_a_sweep_takes(blobs: BlobStore, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path.cwd()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert list(blobs.digests()) == []
    assert len(left_over(tmp_path)) == 1
    assert blobs.sweep(0) == 1
    assert left_over(tmp_path) == []


def test_vectors_of_a_request_are_stored_like_a_file(blobs: BlobStore, tmp_path: Path) -> None:
    (inline,) = blobs.put(from_vectors(ROWS[:4].tolist()))
    (uploaded,) = put(blobs, tmp_path, ROWS[:4])
    assert inline == uploaded
