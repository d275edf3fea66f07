"""Exact neighbour graphs built on a graphics card: candidates by products there, decided here."""

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

#: Share of the card's free memory that is planned with: others may want some too.
MEMORY_SHARE = 0.6
#: The same on the processor, where there is nothing to be measured.
PROCESSOR_BYTES = 1 << 28
#: Nothing is halved below so many rows.
ROWS_MIN = 64
#: Bytes beside a tile's value: the same as float32, whether it counts, and what the selection works with.
TILE_BYTES = 4 + 1 + 8
#: Bytes of a row that was found: similarity and id.
FOUND_BYTES = 4 + 8


class GpuOutOfMemory(Exception):
    """The card has no memory for the smallest tile."""


@dataclass(frozen=True)
class GpuTile:
    """How much is on the card at a time.

    Attributes
    ----------
    queries : rows that ask, with what they have found
    height : of them, rows that are multiplied at a time
    width : rows that answer; the next block comes in meanwhile
    """

    queries: int = 65_536
    height: int = 4096
    width: int = 16_384

    def bytes(self, row_bytes: int, kept: int) -> int:
        """Memory for rows of so many bytes and the candidates of each."""
        held = self.queries * (row_bytes + kept * FOUND_BYTES) + 2 * self.width * (row_bytes + FOUND_BYTES)
        return held + self.height * (self.width * TILE_BYTES + 4 * kept * FOUND_BYTES)

    def halved(self) -> "GpuTile":
        """Half of everything; CardFull where that would be too little to be worth the way."""
        half = GpuTile(*(max(ROWS_MIN, size // 2) for size in (self.queries, self.height, self.width)))
        if half == self:
            raise GpuOutOfMemory
        return half


@dataclass(frozen=True)
class Operands:
    """What is multiplied.

    Attributes
    ----------
    values : tensor of shape (n, d), in the processor's memory
    shifts : array of shape (n,), float32: the similarity of rows i and j is their product and both their shifts
    owner : array of shape (n,), int32; rows of one group are never each other's neighbours
    grouped : whether some group has more rows than one
    """

    values: torch.Tensor
    shifts: Float32Array
    owner: IdArray
    grouped: bool


@dataclass(frozen=True)
class GpuCandidates:
    """The best that some rows have found.

    Attributes
    ----------
    rows : array of shape (m,), int32: the rows that asked
    similarities : array of shape (m, kept), float32, largest first; minus infinity where there are fewer
    ids : array of shape (m, kept), int32
    """

    rows: IdArray
    similarities: Float32Array
    ids: IdArray


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products of float32 in float32, and sums of bfloat16 products in float32, whatever the process has set.

    The device is the current one meanwhile: pinned memory would wake another card.
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
    """Find the candidates of some rows, as many rows at a time as fit.

    Where the card runs out of memory all the same, tiles are halved and the rows ask again.

    Parameters
    ----------
    rows : array of shape (m,), int32, ascending
    kept : int, at most n
        Candidates of each row.
    budget : int, optional
        Bytes on the card; None: a share of what is free.
    report : callable
        Told how many rows have been searched, or what comes to as much.

    Raises
    ------
    CardFull
    """
    tile, first = _fit(GpuTile(), operands.values, kept, _find_budget(device) if budget is None else budget), 0
    while first < len(rows):
        part = rows[first : first + tile.queries]
        found = _search_block(_QueryBlock(operands, part, kept, device, tile), partial(_tell, report, first))
        if found is None:
            tile = tile.halved()
            continue
        yield found
        first += len(part)


def _tell(report: Callable[[int], None], before: int, done: int) -> None:
    report(before + done)


def _find_budget(device: torch.device) -> int:
    if device.type != "cuda":
        return PROCESSOR_BYTES
    torch.cuda.empty_cache()  # what earlier searches have left counts as used
    free, _ = torch.cuda.mem_get_info(device)
    return int(MEMORY_SHARE * free)


def _fit(tile: GpuTile, values: torch.Tensor, kept: int, budget: int) -> GpuTile:
    """The largest tile within the budget and not beyond the rows that there are."""
    n = max(ROWS_MIN, len(values))
    tile = replace(tile, queries=min(tile.queries, n), height=min(tile.height, n), width=min(tile.width, n))
    while tile.bytes(values.shape[1] * values.element_size(), kept) > budget:
        tile = tile.halved()
    return tile


def _search_block(asking: "_QueryBlock", report: Callable[[int], None]) -> GpuCandidates | None:
    """What the rows find; None where the card has no memory for it."""
    try:
        return asking.search(report)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    # Outside the handler, where the error no longer holds what was allocated.
    if asking.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error is about memory: of torch, of CUDA for pinned pages, or of cuBLAS."""
    told = ("out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in told)


@dataclass(frozen=True)
class _Block:
    """Rows that answer, on the card."""

    start: int
    values: torch.Tensor
    shifts: torch.Tensor
    owner: torch.Tensor

    @property
    def stop(self) -> int:
        return self.start + len(self.values)


@dataclass(frozen=True)
class _QueryBlock:
    """Rows that ask, as many as are on the card at a time."""

    operands: Operands
    rows: IdArray
    kept: int
    device: torch.device
    tile: GpuTile

    def search(self, report: Callable[[int], None]) -> GpuCandidates:
        """Let all blocks of rows answer."""
        n = len(self.operands.values)
        values = self._send(self.operands.values[torch.from_numpy(self.rows).long()])
        owner = self._send(torch.from_numpy(self.operands.owner[self.rows]))
        best = torch.full((len(self.rows), self.kept), -torch.inf, device=self.device)
        ids = torch.zeros((len(self.rows), self.kept), dtype=torch.int64, device=self.device)
        edges = [*range(0, n, self.tile.width), n]
        coming = self._load(*edges[:2])
        for after in [*pairwise(edges[1:]), None]:
            block = coming
            for first in range(0, len(self.rows), self.tile.height):
                part = slice(first, min(first + self.tile.height, len(self.rows)))
                self._compare(values[part], owner[part], self.rows[part], block, best[part], ids[part])
            if after is not None:
                coming = self._load(*after)  # while the card is at work
            self._wait()
            report(len(self.rows) * block.stop // n)
        similarities: Float32Array = best.cpu().numpy()
        similarities += self.operands.shifts[self.rows, None]
        return GpuCandidates(self.rows, similarities, ids.to(torch.int32).cpu().numpy())

    def _compare(  # noqa: PLR0917 - a tile: what asks, what answers, what is found
        self,
        values: torch.Tensor,
        owner: torch.Tensor,
        rows: IdArray,
        block: _Block,
        best: torch.Tensor,
        ids: torch.Tensor,
    ) -> None:
        """Keep the best of a tile, beside what the rows have found before, in place."""
        near = torch.mm(values, block.values.T).float()
        near += block.shifts
        if self.operands.grouped or (rows[0] < block.stop and rows[-1] >= block.start):
            near.masked_fill_(owner[:, None] == block.owner, -torch.inf)
        found, places = near.topk(min(self.kept, near.shape[1]), sorted=False)
        best_now, order = torch.cat([best, found], dim=1).topk(self.kept)
        ids.copy_(torch.cat([ids, places + block.start], dim=1).gather(1, order))
        best.copy_(best_now)

    def _load(self, start: int, stop: int) -> _Block:
        arrays = (self.operands.shifts, self.operands.owner)
        shifts, owner = (self._send(torch.from_numpy(array[start:stop])) for array in arrays)
        return _Block(start, self._send(self.operands.values[start:stop]), shifts, owner)

    def _send(self, values: torch.Tensor) -> torch.Tensor:
        """Copy to the card, without waiting for it."""
        if self.device.type != "cuda":
            return values
        return values.pin_memory().to(self.device, non_blocking=True)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


#: The builder of cards that do not multiply bfloat16.
FLOAT32_BUILDER = "verified_f32"
#: CUDA's number of the first cards that multiply bfloat16.
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
    """Build the exact graph of the rows of x; the first parameters are those of `neighbours.build_exact`.

    Parameters
    ----------
    device : str
        torch's name of the card.
    budget : int, optional
        Bytes to be used on the card; by default a share of what is free. Neither side has to fit.
    precisions : functions, optional
        How rows are multiplied: whoever the first leaves uncertified is searched by the next, and at last here in float32. By
        default bfloat16, where the card has it, then float32.

    Returns
    -------
    NeighbourGraph, with the neighbours of every other builder, whatever the card's arithmetic

    Raises
    ------
    card_search.CardFull
        The card has no memory for the smallest tile.

    Notes
    -----
    The bound is that of `build_certified` with constants that hold for a card's units. Float32 is multiplied as such (TF32 is
    off) and summed with one rounding, of 2^-24, for each product: 2^-23 is enough. For bfloat16 products are exact, and 4 to 16
    of them are added to the sum so far in one step: all are aligned to the largest and cut off, and so is the result (Fasi et
    al. 2021; Khattak and Mikaitis 2025). Each costs at most 2^-23 of the sum of all absolute products, b + 2 in a step of b
    products, and none where a product is 0 or stands alone: together never above d 2^-22. The sum, rounded to bfloat16 in
    whatever direction, is off by at most 2^-7 of itself.
    """
    n = len(x)
    if exponent := find_exponent(x):
        x = np.ldexp(x, exponent)
    chosen = precisions or _choose(torch.device(device))
    builder = BUILDER if round_for_gpu in chosen else FLOAT32_BUILDER
    whole = DecidedNeighbours.empty(n, k_max)
    left, furthest = np.arange(n, dtype=np.int32), 0

    def tell(done: int) -> None:
        # Rows that were searched before are told of once, and those that ask again not anew.
        nonlocal furthest
        furthest = max(furthest, n - len(left) + done)
        if report is not None:
            report(furthest)

    for precision in chosen:
        if len(left):
            left = _search(x, left, groups, whole, precision(x), torch.device(device), budget, tell)
    search_unverified_float32(x, groups, whole, ~np.isin(np.arange(n), left))
    tell(len(left))
    return NeighbourGraph(whole.ids, whole.similarities, builder, verified=1 - len(left) / n)


def round_for_gpu(x: Float32Array) -> RoundedRows:
    """Centre rows and round them to bfloat16; the constants are those of a card."""
    return replace(round_centred(x), product=2 * BFLOAT16_ROUNDING, summing=2 * FLOAT32_SUMMING)


def keep_float32(x: Float32Array) -> RoundedRows:
    """Rows as they are, for products in float32."""
    return RoundedRows.plain(x, measure_lengths(x), FLOAT32_SUMMING)


def _choose(device: torch.device) -> Sequence[Callable[[Float32Array], RoundedRows]]:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < CAPABILITY_MIN:
        return (keep_float32,)
    return (round_for_gpu, keep_float32)


def _search(  # noqa: PLR0917 - what a pass over some rows is told
    x: Float32Array,
    rows: IdArray,
    groups: IdArray | None,
    whole: DecidedNeighbours,
    rounded: RoundedRows,
    device: torch.device,
    budget: int | None,
    report: Callable[[int], None],
) -> IdArray:
    """Search some rows, in place; those that are not certified."""
    n, k = len(x), whole.ids.shape[1]
    owner = np.arange(n, dtype=np.int32) if groups is None else groups
    operands = Operands(_as_tensor(rounded), rounded.shifts.astype(np.float32), owner, groups is not None)
    left = []
    with full_precision(device):
        for found in search(
            operands, rows, count_bfloat16_candidates(k, n), device=device, budget=budget, report=report
        ):
            keys, counts = _read(found)
            part, certified = break_ties(x, found.rows, keys, counts, rounded=rounded, k=k)
            whole.ids[found.rows], whole.similarities[found.rows] = part.ids, part.similarities
            left.append(found.rows[~certified])
    return np.concatenate(left)


def _as_tensor(rounded: RoundedRows) -> torch.Tensor:
    if rounded.values.dtype == np.uint16:
        return torch.from_numpy(rounded.values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(rounded.values)


def _read(found: GpuCandidates) -> tuple[KeyArray, CountArray]:
    """Keys of the candidates, and how many each row has."""
    rows, kept = found.ids.shape
    counts, keys = np.isfinite(found.similarities).sum(axis=1), np.empty((rows, kept), np.uint64)

    def write(part: slice) -> None:
        make_keys(found.similarities, found.ids, counts, keys, part.start, part.stop)

    map_rows(write, rows, kept)
    return keys, counts
