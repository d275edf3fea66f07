"""Rows that a model has made so far, across the death of whoever made them."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from consilience.errors import StorageFull
from consilience.stores.blobs import BlobStore
from consilience.stores.checkpoints import Checkpoint, CheckpointStore

IDENTITY = "a" * 64
WHAT = {"model": "m"}
LAYERS = [("0", 3), ("1", 5)]
N = 10


def rows(start: int, stop: int) -> list[np.ndarray]:
    """The rows of some items, told apart by their values."""
    items = np.arange(start, stop, dtype=np.float32)[:, None]
    return [items + np.arange(dim, dtype=np.float32) / 8 for _, dim in LAYERS]


class Died(Exception):
    """As a job's own error leaves the block."""


def never() -> None:
    raise AssertionError("nobody else has it")


def leave(store: CheckpointStore, *blocks: tuple[int, int]) -> None:
    """A run that embeds some blocks and dies."""
    with suppress(Died), store.claim(IDENTITY, never) as claim:
        partial = claim.open(WHAT, N, LAYERS)
        for start, stop in blocks:
            partial.append(rows(start, stop), truncated=1)
        raise Died


def finish(partial: Checkpoint) -> list[np.ndarray]:
    """Embed the rest; all rows of each layer."""
    if partial.done < N:
        partial.append(rows(partial.done, N))
    parts: list[list[np.ndarray]] = [[] for _ in LAYERS]
    for index, block in partial.blocks():
        parts[index].append(block)
    return [np.concatenate(part) for part in parts]


def test_an_interrupted_run_leaves_its_rows_and_a_finished_one_none(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    leave(store, (0, 4), (4, 7))
    with store.claim(IDENTITY, never) as claim:
        partial = claim.open(WHAT, N, LAYERS)
        assert (partial.done, partial.truncated) == (7, 2)
        for found, expected in zip(finish(partial), rows(0, N), strict=True):
            np.testing.assert_array_equal(found, expected.astype(np.float16))
    assert list(tmp_path.glob("extracting/*")) == []


def test_a_run_that_made_nothing_leaves_nothing_and_takes_nothing_away(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    leave(store)
    with suppress(Died), store.claim(IDENTITY, never):
        raise Died  # before anything is known of the rows
    assert list(tmp_path.glob("extracting/*")) == []
    leave(store, (0, 4))
    with suppress(Died), store.claim(IDENTITY, never):
        raise Died
    with store.claim(IDENTITY, never) as claim:
        assert claim.open(WHAT, N, LAYERS).done == 4


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_block_that_is_not_whole_does_not_count(tmp_path: Path, cut: int) -> None:
    store, path = CheckpointStore(tmp_path), tmp_path / "extracting" / IDENTITY
    leave(store, (0, 4), (4, 7))
    os.truncate(path, path.stat().st_size - cut)
    with store.claim(IDENTITY, never) as claim:
        assert claim.open(WHAT, N, LAYERS).done == 4


def test_a_block_whose_bytes_are_not_its_own_does_not_count(tmp_path: Path) -> None:
    store, path = CheckpointStore(tmp_path), tmp_path / "extracting" / IDENTITY
    leave(store, (0, 4), (4, 7))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with store.claim(IDENTITY, never) as claim:
        partial = claim.open(WHAT, N, LAYERS)
        assert (partial.done, len(finish(partial)[0])) == (4, N)


@pytest.mark.parametrize(
    ("what", "layers"), [({"model": "other"}, LAYERS), (WHAT, [("0", 3)]), (WHAT, [("0", 3), ("1", 6)])]
)
def test_rows_of_another_model_or_other_layers_are_not_gone_on_with(
    tmp_path: Path, what: dict[str, str], layers: list[tuple[str, int]]
) -> None:
    store = CheckpointStore(tmp_path)
    leave(store, (0, 4))
    with store.claim(IDENTITY, never) as claim:
        assert claim.open(what, N, layers).done == 0


@pytest.mark.parametrize(
    ("value", "dtype"), [(1.0, "F16"), (65504.0, "F16"), (65536.0, "F32"), (1e-6, "F32"), (0.0, "F16")]
)
def test_a_layer_beyond_float16_is_kept_in_float32(tmp_path: Path, value: float, dtype: str) -> None:
    with CheckpointStore(tmp_path).claim(IDENTITY, never) as claim:
        partial = claim.open(WHAT, N, LAYERS)
        partial.append([np.full((N, 3), value, np.float32), np.ones((N, 5), np.float32)])
        assert partial.dtypes == (dtype, "F16")
        layers = BlobStore(tmp_path).put(partial)
        assert partial.kept_bytes == sum(N * layer.dim * (2 if layer.dtype == "F16" else 4) for layer in layers)
    stored = BlobStore(tmp_path).open(layers[0], N)
    np.testing.assert_array_equal(stored.rows(0, N), np.full((N, 3), value, np.float32))


def test_two_runs_of_the_same_take_turns(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from consilience.stores.checkpoints import CheckpointStore\n"
        f"with CheckpointStore(Path({str(tmp_path)!r})).claim({IDENTITY!r}, lambda: None):\n"
        "    print('mine', flush=True); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "mine\n"
    waited = []

    def wait() -> None:
        waited.append(True)
        other.kill()
        time.sleep(0.02)

    with CheckpointStore(tmp_path).claim(IDENTITY, wait) as claim:
        assert claim.open(WHAT, N, LAYERS).done == 0
    other.communicate()
    assert waited, "the kernel gave the file free when the other process died"


def test_a_full_disk_is_given_its_room_back(tmp_path: Path) -> None:
    with pytest.raises(StorageFull), CheckpointStore(tmp_path).claim(IDENTITY, never):
        raise StorageFull("No room.")
    assert list(tmp_path.glob("extracting/*")) == []


def test_old_checkpoints_are_deleted_unless_they_are_locked(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    assert store.sweep(0.0) == 0
    leave(store, (0, 4))
    assert store.sweep(60.0) == 0
    with store.claim(IDENTITY, never):
        assert store.sweep(0.0) == 0
    leave(store, (0, 4))
    assert store.sweep(0.0) == 1
    assert list(tmp_path.glob("extracting/*")) == []
