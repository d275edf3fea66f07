"""Selection from tiles with the vector comparisons of LLVM IR against the same loop in plain numba, in the same process.

Run `python -m benchmarks lanes`. Times are the best of some rounds, in each of which both kernels run once. A tile is a
block of a cosine matrix of random rows, as in the exact search; both kernels collect the same candidates.
"""

import json
import time
from collections.abc import Callable

import numba as nb
import numpy as np

from consilience.numerics.knn.symmetric import TileCandidates
from consilience.numerics.knn.tile_kernels import (
    KeyArray,
    key_value,
    make_key,
    partition,
    select_from_tile,
    truncate_keys,
)
from consilience.numerics.rows.arrays import CountArray, Float32Array, IdArray

#: Rows and columns of a tile, tiles in a row of tiles, columns of the rows, neighbours.
TILE, TILES, DIM, K = 1024, 8, 64, 48
ROUNDS = 7


@nb.njit(nogil=True)
def select_plainly(  # noqa: PLR0917 - the arguments of the kernel
    tile: Float32Array,
    first_row: int,
    first_column: int,
    mirrored: bool,
    shifts: Float32Array,
    items: IdArray,
    owner: IdArray,
    keys: KeyArray,
    counts: CountArray,
    limits: Float32Array,
    floors: KeyArray,
    k: int,
) -> None:
    """Do the same as `select_from_tile`, one value after the other."""
    room = keys.shape[1]
    for r in range(tile.shape[0]):
        i = first_row + r
        for c in range(tile.shape[1]):
            j = first_column + c
            value = tile[r, c] + shifts[i] + shifts[j]
            for turn in range(2 if mirrored else 1):
                place, other = (j, i) if turn else (i, j)
                if value < limits[place] or owner[i] == owner[j]:
                    continue
                key = make_key(value, items[other])
                if key > floors[place]:
                    continue
                count = counts[place]
                keys[place, count] = key
                counts[place] = count + 1
                if count + 1 == room:
                    partition(keys, place, room, k)
                    floors[place] = keys[place, k - 1]
                    limits[place] = key_value(floors[place])
                    counts[place] = k


def measure() -> dict[str, object]:
    """Seconds of both kernels, the ratio, and whether they agree."""
    x = np.random.default_rng(0).normal(size=(TILE * TILES, DIM)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    buffer = np.empty(TILE * TILE + 64, np.float32)
    kernels = {"llvm": select_from_tile, "plain": select_plainly}
    best = dict.fromkeys(kernels, float("inf"))
    found = {}
    _search(x[: 2 * TILE], buffer, select_plainly)  # compiles it
    for _ in range(ROUNDS):
        for name, kernel in kernels.items():
            seconds, found[name] = _search(x, buffer, kernel)
            best[name] = min(best[name], seconds)
    return {
        "seconds": {name: round(seconds, 4) for name, seconds in best.items()},
        "plain_over_llvm": round(best["plain"] / best["llvm"], 2),
        "same": bool((found["llvm"] == found["plain"]).all()),
    }


def _search(x: Float32Array, buffer: Float32Array, kernel: Callable[..., None]) -> tuple[float, KeyArray]:
    """Select from all tiles; only the time in the kernel counts."""
    n = len(x)
    candidates = TileCandidates(np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int32), K)
    seconds = 0.0
    starts = range(0, n, TILE)
    pairs = [(i, i) for i in starts] + [(i, j) for i in starts for j in starts if i < j]
    tile = buffer[: TILE * TILE].reshape(TILE, TILE)
    for row, column in pairs:
        np.matmul(x[row : row + TILE], x[column : column + TILE].T, out=tile)
        started = time.perf_counter()
        candidates.add(tile, row, column, kernel)
        seconds += time.perf_counter() - started
    truncate_keys(candidates.keys, candidates.counts, K, 0, n)
    return seconds, np.sort(candidates.keys[:, :K], axis=1)


if __name__ == "__main__":
    print(json.dumps(measure()))
