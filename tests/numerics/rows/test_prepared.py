import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from consilience.limits import BLOCK_VALUES
from consilience.numerics.rows.arrays import AnyArray, Float32Array
from consilience.numerics.rows.prepared import (
    ArrayRows,
    LoadedRows,
    PreparedRows,
    RowStatistics,
    blocks,
    find_row_statistics,
)
from consilience.numerics.rows.sources import ArrayLayer


@pytest.fixture
def stack() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_t(3, size=(5000, 3, 16)).astype(np.float32)


def prepare(rows: AnyArray, **options: Any) -> Float32Array:
    return PreparedRows.of(ArrayLayer("0", rows), **options).load().array


def test_rows_are_clamped_and_then_scaled_to_length_1(stack: npt.NDArray[np.float32]) -> None:
    rows = prepare(stack[:, 1], clamp=0.8)
    clamped = np.clip(stack[:, 1].astype(np.float64), -0.8, 0.8)
    np.testing.assert_allclose(rows, clamped / np.linalg.norm(clamped, axis=1, keepdims=True), rtol=2e-6)


def test_without_clamp_and_scaling_rows_are_unchanged(stack: npt.NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(prepare(stack[:, 0], normalise=False), stack[:, 0])


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
def test_very_small_and_very_large_rows_keep_their_direction(size: float) -> None:
    rows = np.array([[3, 4], [4, 3], [-3, 4], [0, 5]], np.float32) * np.float32(size)
    prepared = prepare(rows)
    np.testing.assert_allclose(prepared, [[0.6, 0.8], [0.8, 0.6], [-0.6, 0.8], [0, 1]], rtol=1e-6)


def test_zero_rows_stay_zero_and_are_counted() -> None:
    rows = np.ones((6, 2), np.float32)
    rows[[1, 4]] = 0
    prepared = PreparedRows.of(ArrayLayer("0", rows)).load()
    assert not prepared.array[[1, 4]].any()
    assert find_row_statistics(prepared) == RowStatistics(
        2, constant=False, largest=float(np.float32(1) / np.sqrt(np.float32(2)))
    )


def test_a_row_with_a_leading_zero_is_not_a_zero_row() -> None:
    assert find_row_statistics(ArrayRows(np.array([[0, 1], [0, 0], [1, 0]], np.float32))).zero_rows == 1


@pytest.mark.parametrize("step", [1, 7, 5000, None])
def test_blocks_cover_every_row_once(stack: npt.NDArray[np.float32], step: int | None) -> None:
    rows = PreparedRows(ArrayLayer("0", stack[:20, 0]), normalise=False)
    parts = dict(blocks(rows, step))
    np.testing.assert_array_equal(np.concatenate(list(parts.values())), stack[:20, 0])
    assert list(parts) == list(np.cumsum([0, *(len(part) for part in parts.values())])[:-1])


@pytest.mark.parametrize("options", [{}, {"clamp": 0.5}, {"centre": True}, {"normalise": False}])
def test_rows_read_by_blocks_or_by_id_are_those_of_the_whole(
    stack: npt.NDArray[np.float32], options: dict[str, Any]
) -> None:
    rows = PreparedRows.of(ArrayLayer("0", stack[:, 1]), **options)
    whole = rows.load()
    ids = np.random.default_rng(1).permutation(rows.n)[:100]
    np.testing.assert_array_equal(rows.read(4000, 4321), whole.read(4000, 4321))
    np.testing.assert_array_equal(rows.take(ids), whole.take(ids))
    sent = pickle.loads(pickle.dumps(rows))  # noqa: S301 - made on this very line
    assert sent.read(7, 8).tobytes() == whole.read(7, 8).tobytes()


def test_a_constant_layer_is_detected_across_blocks() -> None:
    rows = np.full((100, BLOCK_VALUES // 50), 0.5, np.float32)
    assert find_row_statistics(ArrayRows(rows)).constant
    rows[-1, -1] = 0.25
    assert not find_row_statistics(ArrayRows(rows)).constant


def test_the_array_of_the_caller_is_not_changed() -> None:
    rows = np.full((4, 2), 3.0, np.float32)
    prepare(rows, clamp=1.0)
    assert (rows == 3.0).all()


def test_centring_subtracts_the_mean_row_before_scaling(stack: npt.NDArray[np.float32]) -> None:
    rows = stack[:, 0].astype(np.float64) + 5
    centred = rows - rows.mean(axis=0)
    prepared = prepare(rows, centre=True)
    np.testing.assert_allclose(prepared, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=2e-6)


def test_rows_in_memory_are_pickled_as_their_origin(stack: npt.NDArray[np.float32]) -> None:
    origin = PreparedRows.of(ArrayLayer("0", stack[:, 0].copy()), centre=True)
    kept = LoadedRows(origin.load().array, origin)
    arrived = pickle.loads(pickle.dumps(kept))  # noqa: S301 - our own
    assert isinstance(arrived, PreparedRows)
    np.testing.assert_array_equal(arrived.read(10, 20), kept.read(10, 20))
