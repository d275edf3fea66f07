"""Exact neighbour graphs built on a graphics card: candidates by products there, decided in float32 here."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from consilience.numerics.arrays import Float32Array, IdArray
from consilience.numerics.card_search import Candidates, Operands, plain_products, search
from consilience.numerics.certified import (
    BUILDER,
    EPSILON,
    ROUNDING,
    SUMMING,
    Rounded,
    count_kept,
    round_centred,
    search_others,
    settle,
)
from consilience.numerics.compiled import CountArray
from consilience.numerics.compiled_certified import make_keys
from consilience.numerics.compiled_keys import KeyArray
from consilience.numerics.neighbours import NeighbourGraph, find_exponent
from consilience.numerics.threads import map_rows

#: The builder of cards that do not multiply bfloat16.
PLAIN_BUILDER = "certified_f32"
#: CUDA's number of the first cards that multiply bfloat16.
CAPABILITY_MIN = (8, 0)


def build_on_card(
    x: Float32Array,
    k_max: int,
    groups: IdArray | None = None,
    report: Callable[[int], None] | None = None,
    *,
    device: str = "cuda:0",
    budget: int | None = None,
    precisions: Sequence[Callable[[Float32Array], Rounded]] | None = None,
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
    NeighbourGraph, that of `certified.build_certified`, whatever the card's arithmetic: where they find equal similarities, the
    same bits, and else but for float32's rounding of rows that only one of them certifies

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
    builder = BUILDER if round_for_card in chosen else PLAIN_BUILDER
    graph = NeighbourGraph(np.empty((n, k_max), np.int32), np.empty((n, k_max), np.float32), builder)
    left, furthest = np.arange(n, dtype=np.int32), 0

    def tell(done: int) -> None:
        # Rows that were searched before are told of once, and those that ask again not anew.
        nonlocal furthest
        furthest = max(furthest, n - len(left) + done)
        if report is not None:
            report(furthest)

    for precision in chosen:
        if len(left):
            left = _search(x, left, groups, graph, precision(x), torch.device(device), budget, tell)
    search_others(x, groups, graph, left)
    tell(len(left))
    return replace(graph, certified=1 - len(left) / n)


def round_for_card(x: Float32Array) -> Rounded:
    """Centre rows and round them to bfloat16; the constants are those of a card."""
    return replace(round_centred(x), product=2 * ROUNDING, summing=2 * SUMMING)


def take_whole(x: Float32Array) -> Rounded:
    """Rows as they are, for products in float32."""
    n, d = x.shape
    lengths = np.empty(n)

    def measure(part: slice) -> None:
        lengths[part] = np.sqrt(np.einsum("ij,ij->i", x[part], x[part], dtype=np.float64)) * (1 + d * EPSILON)

    map_rows(measure, n, d)
    return Rounded(x, lengths, lengths, np.zeros(n), np.zeros(n), 0.0, product=0.0)


def _choose(device: torch.device) -> Sequence[Callable[[Float32Array], Rounded]]:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < CAPABILITY_MIN:
        return (take_whole,)
    return (round_for_card, take_whole)


def _search(  # noqa: PLR0917 - what a pass over some rows is told
    x: Float32Array,
    rows: IdArray,
    groups: IdArray | None,
    graph: NeighbourGraph,
    rounded: Rounded,
    device: torch.device,
    budget: int | None,
    report: Callable[[int], None],
) -> IdArray:
    """Search some rows, in place; those that are not certified."""
    n, k = len(x), graph.k_max
    owner = np.arange(n, dtype=np.int32) if groups is None else groups
    operands = Operands(_as_tensor(rounded), rounded.shifts.astype(np.float32), owner, groups is not None)
    left = []
    with plain_products(device):
        for found in search(operands, rows, count_kept(k, n), device=device, budget=budget, report=report):
            keys, counts = _read(found)
            part, certified = settle(x, found.rows, keys, counts, rounded=rounded, k=k)
            graph.ids[found.rows], graph.similarities[found.rows] = part.ids, part.similarities
            left.append(found.rows[~certified])
    return np.concatenate(left)


def _as_tensor(rounded: Rounded) -> torch.Tensor:
    if rounded.values.dtype == np.uint16:
        return torch.from_numpy(rounded.values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(rounded.values)


def _read(found: Candidates) -> tuple[KeyArray, CountArray]:
    """Keys of the candidates, and how many each row has."""
    rows, kept = found.ids.shape
    counts, keys = np.isfinite(found.similarities).sum(axis=1), np.empty((rows, kept), np.uint64)

    def write(part: slice) -> None:
        make_keys(found.similarities, found.ids, counts, keys, part.start, part.stop)

    map_rows(write, rows, kept)
    return keys, counts
