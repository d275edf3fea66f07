"""The units that costs are counted in: what a request is made of, what its parts cost, and what was measured of one operation.

Unit costs were measured on two cores of a Xeon with AVX-512 (`benchmarks/costs.py` measures them again); seconds are within a
factor of about three elsewhere. Bytes are bounds: no job of the tests takes more than its plan says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from consilience.contract.alignments import ScoringOptions
from consilience.contract.metric import Metric
from consilience.limits import FLOAT32_BYTES, PREPARED_BYTES

#: Operations a second of a search, of products in float32 and float64, and of compiled loops.
SEARCH_FLOPS_PER_S = 3.0e11
PRODUCT_FLOPS_PER_S = 1.2e11
EXACT_FLOPS_PER_S = 6.0e10
STEPS_PER_S = 3.0e8
#: Seconds that a job costs whatever its size, and each value that is read, prepared or centred once.
JOB_S = 0.15
VALUE_S = 5.0e-9
#: Seconds to fetch a row by its number from a file.
GATHER_S = 3.0e-6
#: Bytes for each row, of the vectors that scores, nulls and intervals are made of; of its id and group where it has them.
ROW_BYTES = 350
LABEL_BYTES = 300


@dataclass(frozen=True)
class Grid:
    """Rows, the columns of each layer that takes part, and how they are read."""

    n: int
    dims_a: tuple[int, ...]
    dims_b: tuple[int, ...]
    labelled: bool = False
    """Whether rows have ids or groups that are looked at."""
    gathered: bool = False
    """Whether rows are paired by id, and so in an order of their own."""
    galleries: tuple[int, ...] = ()
    """Galleries of fewer rows that are scored too, ascending."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Columns of all layers."""
        return (*self.dims_a, *self.dims_b)

    @property
    def cells(self) -> int:
        """Layer pairs."""
        return len(self.dims_a) * len(self.dims_b)

    @property
    def cross(self) -> float:
        """Entries of all cross-products."""
        return float(sum(self.dims_a) * sum(self.dims_b))

    @property
    def own(self) -> float:
        """Entries of each layer's own products."""
        return float(sum(d * d for d in self.dims))

    @property
    def widest(self) -> tuple[int, int]:
        """Columns of the widest layer of each side."""
        return max(self.dims_a), max(self.dims_b)


@dataclass(frozen=True)
class Work:
    """What a part of a request costs."""

    flops: float = 0.0
    seconds: float = 0.0
    kept: float = 0.0
    """Bytes that stay until the end."""
    passing: float = 0.0
    """Bytes that are given back."""


def count_draws(metric: Metric, options: ScoringOptions) -> int:
    """Relabellings that the null takes: none where it has a closed form."""
    method = metric.nulls[0] if options.null.method == "auto" else options.null.method
    return options.null.permutations if method == "permutation" else 0


def has_interval(options: ScoringOptions) -> bool:
    """Whether scores have an interval that is made by leaving rows out."""
    return options.interval is not None and options.interval.target != "gallery"


def value_s(grid: Grid, dims: Sequence[int], *, streamed: bool) -> float:
    """Seconds of one pass over some layers."""
    gather = GATHER_S * grid.n * len(dims) if streamed and grid.gathered else 0.0
    return VALUE_S * grid.n * sum(dims) + gather


def rows_in_memory(grid: Grid) -> int:
    """Bytes of prepared rows, of as many layers of both sides as are held at a time."""
    sizes = [[FLOAT32_BYTES * grid.n * d for d in dims] for dims in (grid.dims_a, grid.dims_b)]
    return sum(min(sum(side), PREPARED_BYTES + max(side)) for side in sizes)
