"""Exact neighbour graphs built with a GPU: candidates by products on the GPU, tie-break on the CPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from consilience.numerics.knn.accelerated.bfloat16 import (
    BUILDER,
    count_bfloat16_candidates,
    round_centred,
    search_unverified_float32,
)
from consilience.numerics.knn.bounds import BFLOAT16_ROUNDING, FLOAT32_SUMMING, measure_lengths
from consilience.numerics.knn.graph import NeighbourGraph, find_exponent
from consilience.numerics.knn.tie_break import DecidedNeighbours, RoundedRows, break_ties
from consilience.numerics.knn.tile_kernels import KeyArray, make_keys
from consilience.numerics.rows.arrays import CountArray, Float32Array, IdArray
from consilience.numerics.rows.parallel import map_rows

#: Share of the GPU's free memory to use, since other processes may need some too.
MEMORY_SHARE = 0.6
#: Bytes to use on the CPU, where free memory is not measured.
PROCESSOR_BYTES = 1 << 28
#: Smallest number of rows of a tile.
ROWS_MIN = 64
#: Bytes per value of a tile: the float32 value, its mask, and the buffers of the selection.
TILE_BYTES = 4 + 1 + 8
#: Bytes of a candidate: similarity and id.
FOUND_BYTES = 4 + 8


class GpuOutOfMemory(Exception):
    """The GPU has too little memory for the smallest tile."""


@dataclass(frozen=True)
class GpuTile:
    """Sizes of the blocks on the GPU.

    Attributes
    ----------
    queries : number of query rows, with their candidates
    height : number of query rows that are multiplied at a time
    width : number of gallery rows; the next block is copied meanwhile
    """

    queries: int = 65_536
    height: int = 4096
    width: int = 16_384

    def bytes(self, row_bytes: int, kept: int) -> int:
        """Return the memory needed for rows of `row_bytes` bytes with `kept` candidates each."""
        held = self.queries * (row_bytes + kept * FOUND_BYTES) + 2 * self.width * (row_bytes + FOUND_BYTES)
        return held + self.height * (self.width * TILE_BYTES + 4 * kept * FOUND_BYTES)

    def halved(self) -> "GpuTile":
        """Return half of all sizes; raise GpuOutOfMemory if they cannot be halved any more."""
        half = GpuTile(*(max(ROWS_MIN, size // 2) for size in (self.queries, self.height, self.width)))
        if half == self:
            raise GpuOutOfMemory
        return half


@dataclass(frozen=True)
class Operands:
    """Factors of the products.

    Attributes
    ----------
    values : tensor of shape (n, d), in the memory of the CPU
    shifts : array of shape (n,), float32: the similarity of two rows is their product plus both shifts
    owner : array of shape (n,), int32, group of each row; rows of one group are never neighbours of each other
    grouped : whether some group has several rows
    """

    values: torch.Tensor
    shifts: Float32Array
    owner: IdArray
    grouped: bool


@dataclass(frozen=True)
class GpuCandidates:
    """Best candidates of some query rows.

    Attributes
    ----------
    rows : array of shape (m,), int32, the query rows
    similarities : array of shape (m, kept), float32, largest first; minus infinity for missing candidates
    ids : array of shape (m, kept), int32
    """

    rows: IdArray
    similarities: Float32Array
    ids: IdArray


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute float32 products in float32 and sum bfloat16 products in float32, for any setting of the process.

    The device is the current one meanwhile: otherwise pinned memory would initialise another GPU.
    """
    matmul = torch.backends.cuda.matmul
    precision = matmul.fp32_precision
    reduced = (
        matmul.allow_bf16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction_split_k,
    )
    matmul.fp32_precision, matmul.allow_bf16_reduced_precision_reduction = "ieee", (False, True)
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    finally:
        matmul.fp32_precision, matmul.allow_bf16_reduced_precision_reduction = precision, reduced


def search(
    operands: Operands,
    rows: IdArray,
    kept: int,
    *,
    device: torch.device,
    budget: int | None,
    report: Callable[[int], None],
) -> Iterator[GpuCandidates]:
    """Find the candidates of some rows, in blocks that fit in memory.

    If the GPU runs out of memory nevertheless, the tiles are halved and the block is searched again.

    Parameters
    ----------
    rows : array of shape (m,), int32, ascending
    kept : int, at most n
        Number of candidates of each row.
    budget : int, optional
        Bytes to use on the GPU; None: a share of the free memory.
    report : callable
        Called with the number of rows searched, or the equivalent number.

    Raises
    ------
    GpuOutOfMemory
    """
    tile, first = _fit(GpuTile(), operands.values, kept, _find_budget(device) if budget is None else budget), 0
    while first < len(rows):
        part = rows[first : first + tile.queries]
        found = _search_block(_QueryBlock(operands, part, kept, device, tile), partial(_report_after, report, first))
        if found is None:
            tile = tile.halved()
            continue
        yield found
        first += len(part)


def _report_after(report: Callable[[int], None], before: int, done: int) -> None:
    report(before + done)


def _find_budget(device: torch.device) -> int:
    if device.type != "cuda":
        return PROCESSOR_BYTES
    torch.cuda.empty_cache()  # memory cached by earlier searches counts as used
    free, _ = torch.cuda.mem_get_info(device)
    return int(MEMORY_SHARE * free)


def _fit(tile: GpuTile, values: torch.Tensor, kept: int, budget: int) -> GpuTile:
    """Return the largest tile within the budget and the number of rows."""
    n = max(ROWS_MIN, len(values))
    tile = replace(tile, queries=min(tile.queries, n), height=min(tile.height, n), width=min(tile.width, n))
    while tile.bytes(values.shape[1] * values.element_size(), kept) > budget:
        tile = tile.halved()
    return tile


def _search_block(block: "_QueryBlock", report: Callable[[int], None]) -> GpuCandidates | None:
    """Return the candidates of a block; None if the GPU runs out of memory."""
    try:
        return block.search(report)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    # Outside the handler, so that the error no longer references the allocated tensors.
    if block.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Return True if an error is about memory: of torch, of CUDA for pinned pages, or of cuBLAS."""
    texts = ("out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in texts)


@dataclass(frozen=True)
class _GalleryBlock:
    """Gallery rows on the GPU."""

    start: int
    values: torch.Tensor
    shifts: torch.Tensor
    owner: torch.Tensor

    @property
    def stop(self) -> int:
        return self.start + len(self.values)


@dataclass(frozen=True)
class _QueryBlock:
    """Query rows that are on the GPU at the same time."""

    operands: Operands
    rows: IdArray
    kept: int
    device: torch.device
    tile: GpuTile

    def search(self, report: Callable[[int], None]) -> GpuCandidates:
        """Search all blocks of the gallery."""
        n = len(self.operands.values)
        values = self._send(self.operands.values[torch.from_numpy(self.rows).long()])
        owner = self._send(torch.from_numpy(self.operands.owner[self.rows]))
        best = torch.full((len(self.rows), self.kept), -torch.inf, device=self.device)
        ids = torch.zeros((len(self.rows), self.kept), dtype=torch.int64, device=self.device)
        edges = [*range(0, n, self.tile.width), n]
        pending = self._load(*edges[:2])
        for after in [*pairwise(edges[1:]), None]:
            block = pending
            for first in range(0, len(self.rows), self.tile.height):
                part = slice(first, min(first + self.tile.height, len(self.rows)))
                self._compare(values[part], owner[part], self.rows[part], block, best[part], ids[part])
            if after is not None:
                pending = self._load(*after)  # while the GPU computes
            self._wait()
            report(len(self.rows) * block.stop // n)
        similarities: Float32Array = best.cpu().numpy()
        similarities += self.operands.shifts[self.rows, None]
        return GpuCandidates(self.rows, similarities, ids.to(torch.int32).cpu().numpy())

    def _compare(  # noqa: PLR0917 - a tile: queries, gallery rows, candidates
        self,
        values: torch.Tensor,
        owner: torch.Tensor,
        rows: IdArray,
        block: _GalleryBlock,
        best: torch.Tensor,
        ids: torch.Tensor,
    ) -> None:
        """Update the best candidates with a tile, in place."""
        near = torch.mm(values, block.values.T).float()
        near += block.shifts
        if self.operands.grouped or (rows[0] < block.stop and rows[-1] >= block.start):
            near.masked_fill_(owner[:, None] == block.owner, -torch.inf)
        found, positions = near.topk(min(self.kept, near.shape[1]), sorted=False)
        best_now, order = torch.cat([best, found], dim=1).topk(self.kept)
        ids.copy_(torch.cat([ids, positions + block.start], dim=1).gather(1, order))
        best.copy_(best_now)

    def _load(self, start: int, stop: int) -> _GalleryBlock:
        arrays = (self.operands.shifts, self.operands.owner)
        shifts, owner = (self._send(torch.from_numpy(array[start:stop])) for array in arrays)
        return _GalleryBlock(start, self._send(self.operands.values[start:stop]), shifts, owner)

    def _send(self, values: torch.Tensor) -> torch.Tensor:
        """Copy values to the GPU without waiting."""
        if self.device.type != "cuda":
            return values
        return values.pin_memory().to(self.device, non_blocking=True)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


#: Builder on GPUs that do not multiply bfloat16.
FLOAT32_BUILDER = "verified_f32"
#: Lowest CUDA compute capability that multiplies bfloat16.
CAPABILITY_MIN = (8, 0)


def build_on_gpu(
    x: Float32Array,
    k_max: int,
    groups: IdArray | None = None,
    report: Callable[[int], None] | None = None,
    *,
    device: str = "cuda:0",
    budget: int | None = None,
    precisions: Sequence[Callable[[Float32Array], RoundedRows]] | None = None,
) -> NeighbourGraph:
    """Build the exact graph of the rows of x with a GPU; the first parameters are those of `graph.build_exact`.

    Parameters
    ----------
    device : str
        torch's name of the GPU.
    budget : int, optional
        Bytes to use on the GPU; by default a share of the free memory. The rows need not fit.
    precisions : functions, optional
        Preparations of the rows for products, tried in turn: rows that one leaves unverified are searched with the next, at
        last on the CPU in float32. By default bfloat16, if the GPU supports it, then float32.

    Returns
    -------
    NeighbourGraph, with the same neighbours as every other builder, for any arithmetic of the GPU

    Raises
    ------
    GpuOutOfMemory
        The GPU has too little memory for the smallest tile.

    Notes
    -----
    The bound is that of `build_verified` with constants that hold for the units of a GPU. Float32 is multiplied without TF32
    and summed with one rounding, of 2^-24, for each product: 2^-23 is enough. For bfloat16 products are exact, and 4 to 16
    of them are added to the sum so far in one step: all are aligned to the largest and truncated, as is the result (Fasi et
    al. 2021; Khattak and Mikaitis 2025). Each costs at most 2^-23 of the sum of all absolute products, b + 2 in a step of b
    products, and none where a product is 0 or stands alone: together never above d 2^-22. The sum, rounded to bfloat16 in
    any direction, has a relative error of at most 2^-7.
    """
    n = len(x)
    if exponent := find_exponent(x):
        x = np.ldexp(x, exponent)
    chosen = precisions or _choose(torch.device(device))
    builder = BUILDER if round_for_gpu in chosen else FLOAT32_BUILDER
    whole = DecidedNeighbours.empty(n, k_max)
    left, furthest = np.arange(n, dtype=np.int32), 0

    def report_progress(done: int) -> None:
        # Progress never decreases, although unverified rows are searched again.
        nonlocal furthest
        furthest = max(furthest, n - len(left) + done)
        if report is not None:
            report(furthest)

    for precision in chosen:
        if len(left):
            left = _search(x, left, groups, whole, precision(x), torch.device(device), budget, report_progress)
    search_unverified_float32(x, groups, whole, ~np.isin(np.arange(n), left))
    report_progress(len(left))
    return NeighbourGraph(whole.ids, whole.similarities, builder, verified=1 - len(left) / n)


def round_for_gpu(x: Float32Array) -> RoundedRows:
    """Centre rows and round them to bfloat16, with the error constants of a GPU."""
    return replace(round_centred(x), product=2 * BFLOAT16_ROUNDING, summing=2 * FLOAT32_SUMMING)


def keep_float32(x: Float32Array) -> RoundedRows:
    """Return rows unchanged, for products in float32."""
    return RoundedRows.plain(x, measure_lengths(x), FLOAT32_SUMMING)


def _choose(device: torch.device) -> Sequence[Callable[[Float32Array], RoundedRows]]:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < CAPABILITY_MIN:
        return (keep_float32,)
    return (round_for_gpu, keep_float32)


def _search(  # noqa: PLR0917 - the arguments of a pass over some rows
    x: Float32Array,
    rows: IdArray,
    groups: IdArray | None,
    whole: DecidedNeighbours,
    rounded: RoundedRows,
    device: torch.device,
    budget: int | None,
    report: Callable[[int], None],
) -> IdArray:
    """Search some rows, in place, and return the unverified ones."""
    n, k = len(x), whole.ids.shape[1]
    owner = np.arange(n, dtype=np.int32) if groups is None else groups
    operands = Operands(_as_tensor(rounded), rounded.shifts.astype(np.float32), owner, groups is not None)
    left = []
    with full_precision(device):
        for found in search(
            operands, rows, count_bfloat16_candidates(k, n), device=device, budget=budget, report=report
        ):
            keys, counts = _read(found)
            decided, verified = break_ties(x, found.rows, keys, counts, rounded=rounded, k=k)
            whole.ids[found.rows], whole.similarities[found.rows] = decided.ids, decided.similarities
            left.append(found.rows[~verified])
    return np.concatenate(left)


def _as_tensor(rounded: RoundedRows) -> torch.Tensor:
    if rounded.values.dtype == np.uint16:
        return torch.from_numpy(rounded.values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(rounded.values)


def _read(found: GpuCandidates) -> tuple[KeyArray, CountArray]:
    """Return the keys of the candidates and the number of candidates of each row."""
    rows, kept = found.ids.shape
    counts, keys = np.isfinite(found.similarities).sum(axis=1), np.empty((rows, kept), np.uint64)

    def write(part: slice) -> None:
        make_keys(found.similarities, found.ids, counts, keys, part.start, part.stop)

    map_rows(write, rows, kept)
    return keys, counts
