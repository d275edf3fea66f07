"""Exact neighbour graphs: the choice of the builder and the device."""

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

#: faiss: flat FAISS search. symmetric: every tile of the similarity matrix is used for its rows and its columns. verified_bf16:
#: bfloat16 search with verified results. auto: the fastest of these for the shape on this processor.
ExactBuilder = Literal["auto", "faiss", "symmetric", "verified_bf16"]

#: Number of rows below which every builder takes less than a millisecond.
ROWS_MIN = 128
#: Multiply-adds that take about five seconds on two cores: as long as importing torch and initialising a GPU may take.
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
    """Build the exact graph of the rows of x; the first parameters are those of `graph.build_exact`.

    All builders, on any device, find the same neighbours and similarities to the last bit.
    The graph names the builder and the device that were used.

    Parameters
    ----------
    device : str
        `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU if there is one and the search is large enough. If the GPU runs out of
        memory, the graph is built on the CPU.

    Raises
    ------
    InvalidRequest, Unavailable
        The device is not available.
    """
    gpu = choose_gpu(len(x), x.shape[1], builder, device)
    if gpu is None:
        return _build_on_cpu(x, k_max, groups, report, builder)
    from consilience.numerics.knn.accelerated.gpu import GpuOutOfMemory, build_on_gpu  # noqa: PLC0415 - imports torch

    try:
        graph, label = build_on_gpu(x, k_max, groups, report, device=gpu.name), str(gpu)
    except GpuOutOfMemory:
        graph, label = _build_on_cpu(x, k_max, groups, report, builder), f"cpu ({gpu}: out of memory)"
    return replace(graph, device=label)


def choose_gpu(n: int, d: int, builder: str, device: str) -> Gpu | None:
    """Return the GPU that builds a graph of n rows of d values; None for the CPU, whose builders can be requested by name."""
    if device == "cpu" or builder not in ("auto", "verified_bf16") or (device == "auto" and n * n * d < GPU_STEPS):
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
    """Return the fastest builder for n rows of d values on this processor."""
    # symmetric over faiss.knn, measured on two cores (Xeon with AVX-512, OpenBLAS), k from 10 to 200 and d from 3 to 1024:
    # 0.2 to 0.6 of the time from n = 200 on. It uses at most half as many threads as there are blocks, for half of the work.
    if n < ROWS_MIN or count_blocks(n) < count_threads():
        return "faiss"
    if is_native() and n * n * d >= CERTIFIED_STEPS * count_threads():
        return "verified_bf16"
    return "symmetric"


def is_native() -> bool:
    """Return True if the processor multiplies bfloat16 matrices (AMX); otherwise float32 is faster."""
    return bool(binding.get_host_cpu_features().get("amx-bf16", False))
