"""The one place where an exact neighbour graph is built, and where it is chosen how."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from llvmlite import binding

from consilience.limits import CERTIFIED_STEPS
from consilience.numerics.knn.devices import Gpu, find_gpu
from consilience.numerics.knn.graph import NeighbourGraph, build_exact
from consilience.numerics.knn.symmetric import build_symmetric, count_blocks
from consilience.numerics.rows.arrays import Float32Array, IdArray
from consilience.numerics.rows.parallel import count_threads

#: faiss: a flat FAISS search. symmetric: every tile of the similarity matrix serves its rows and its columns. verified_bf16:
#: candidates in bfloat16, decided in float32. auto: the fastest of them for the shape on the processor at hand.
ExactBuilder = Literal["auto", "faiss", "symmetric", "verified_bf16"]

#: Below it, all take less than a millisecond.
ROWS_MIN = 128
#: Multiply-adds that take two cores some five seconds: as long as loading torch and waking a card may take.
GPU_STEPS = 2.5e11


def build_graph(
    x: Float32Array,
    k_max: int,
    groups: IdArray | None = None,
    report: Callable[[int], None] | None = None,
    builder: ExactBuilder = "auto",
    *,
    device: str = "cpu",
) -> NeighbourGraph:
    """Build the exact graph of the rows of x; the first parameters are those of `neighbours.build_exact`.

    All builders, on any device, find the same neighbours in the same order; similarities may differ by float32's rounding.
    What the graph says of its builder and device tells which they were.

    Parameters
    ----------
    device : str
        `cpu`, `cuda`, `cuda:1`, or `auto` for a card where there is one and it pays. A card that is out of memory leaves the
        graph to the processor.

    Raises
    ------
    InvalidRequest, Unavailable
        There is no such device.
    """
    card = choose_gpu(len(x), x.shape[1], builder, device)
    if card is None:
        return _build_on_cpu(x, k_max, groups, report, builder)
    from consilience.numerics.knn.accelerated.gpu import (
        GpuOutOfMemory,  # noqa: PLC0415 - it loads torch
        build_on_gpu,  # noqa: PLC0415 - it loads torch
    )

    try:
        graph, label = build_on_gpu(x, k_max, groups, report, device=card.name), str(card)
    except GpuOutOfMemory:
        graph, label = _build_on_cpu(x, k_max, groups, report, builder), f"cpu ({card}: out of memory)"
    return replace(graph, device=label)


def choose_gpu(n: int, d: int, builder: str, device: str) -> Gpu | None:
    """The card that builds a graph of n rows of d values; None where the processor does, whose builders can be forced."""
    if builder not in ("auto", "verified_bf16") or (device == "auto" and n * n * d < GPU_STEPS):
        return None
    return find_gpu(device)


def _build_on_cpu(
    x: Float32Array, k_max: int, groups: IdArray | None, report: Callable[[int], None] | None, builder: ExactBuilder
) -> NeighbourGraph:
    chosen = choose_builder(*x.shape) if builder == "auto" else builder
    if chosen == "verified_bf16":
        from consilience.numerics.knn.accelerated.bfloat16 import build_verified  # noqa: PLC0415 - its kernels are for it alone

        return build_verified(x, k_max, groups, report)
    build = build_symmetric if chosen == "symmetric" else build_exact
    return build(x, k_max, groups, report)


def choose_builder(n: int, d: int) -> ExactBuilder:
    """The builder that is fastest for n rows of d values, on this processor."""
    # symmetric over faiss.knn, measured on two cores (Xeon with AVX-512, OpenBLAS), k from 10 to 200 and d from 3 to 1024:
    # 0.2 to 0.6 from n = 200 on. It keeps no more threads busy than half as many as there are blocks, at half of the work.
    if n < ROWS_MIN or count_blocks(n) < count_threads():
        return "faiss"
    if is_native() and n * n * d >= CERTIFIED_STEPS * count_threads():
        return "verified_bf16"
    return "symmetric"


def is_native() -> bool:
    """Whether the processor multiplies matrices of bfloat16 (AMX); without, float32 is faster."""
    return bool(binding.get_host_cpu_features().get("amx-bf16", False))
