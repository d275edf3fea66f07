"""The one place where an exact neighbour graph is built, and where it is chosen how."""

from collections.abc import Callable
from typing import Literal

from llvmlite import binding

from consilience.numerics.arrays import Float32Array, IdArray
from consilience.numerics.neighbours import NeighbourGraph, build_exact
from consilience.numerics.threads import count_threads
from consilience.numerics.tile_pairs import count_blocks
from consilience.numerics.tiles import build_symmetric

#: faiss: a flat FAISS search. symmetric: every tile of the similarity matrix serves its rows and its columns. certified_bf16:
#: candidates in bfloat16, decided in float32. auto: the fastest of them for the shape on the processor at hand.
ExactBuilder = Literal["auto", "faiss", "symmetric", "certified_bf16"]

#: Below it, all take less than a millisecond.
ROWS_MIN = 128
#: Multiply-adds of all similarities, for each thread, from which bfloat16 saves more than importing torch takes, a second: five
#: seconds of a flat search.
CERTIFIED_STEPS = 5e11


def build_graph(
    x: Float32Array,
    k_max: int,
    groups: IdArray | None = None,
    report: Callable[[int], None] | None = None,
    builder: ExactBuilder = "auto",
) -> NeighbourGraph:
    """Build the exact graph of the rows of x; the parameters are those of `neighbours.build_exact`.

    All builders find the same neighbours, but for similarities that differ by no more than float32's rounding. What the graph
    says of its builder tells which it was.
    """
    chosen = choose_builder(*x.shape) if builder == "auto" else builder
    if chosen == "certified_bf16":
        from consilience.numerics.certified import build_certified  # noqa: PLC0415 - its kernels are for it alone

        return build_certified(x, k_max, groups, report)
    build = build_symmetric if chosen == "symmetric" else build_exact
    return build(x, k_max, groups, report)


def choose_builder(n: int, d: int) -> ExactBuilder:
    """The builder that is fastest for n rows of d values, on this processor."""
    # symmetric over faiss.knn, measured on two cores (Xeon with AVX-512, OpenBLAS), k from 10 to 200 and d from 3 to 1024:
    # 0.2 to 0.6 from n = 200 on. It keeps no more threads busy than half as many as there are blocks, at half of the work.
    if n < ROWS_MIN or count_blocks(n) < count_threads():
        return "faiss"
    if is_native() and n * n * d >= CERTIFIED_STEPS * count_threads():
        return "certified_bf16"
    return "symmetric"


def is_native() -> bool:
    """Whether the processor multiplies matrices of bfloat16 (AMX); without, float32 is faster."""
    return bool(binding.get_host_cpu_features().get("amx-bf16", False))
