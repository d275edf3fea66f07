"""Units of cost: the shape of a request, the cost of its parts, and measured costs of one operation.

Unit costs were measured on two cores of a Xeon with AVX-512 (`benchmarks/costs.py` measures them again); seconds are within a
factor of about three on other machines. Bytes are upper bounds: no job in the tests takes more than its plan says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from consilience.contract.alignments import ScoringOptions
from consilience.contract.metric import Metric
from consilience.limits import FLOAT32_BYTES, PREPARED_BYTES

#: Operations per second of a search, of products in float32 and float64, and of compiled loops.
SEARCH_FLOPS_PER_S = 3.0e11
PRODUCT_FLOPS_PER_S = 1.2e11
EXACT_FLOPS_PER_S = 6.0e10
STEPS_PER_S = 3.0e8
#: Seconds of any job, and of each value that is read, prepared or centred once.
JOB_S = 0.15
VALUE_S = 5.0e-9
#: Seconds to fetch a row by its number from a file.
GATHER_S = 3.0e-6
#: Bytes of each row for the vectors of scores, nulls and intervals; and for its id and group, if it has them.
ROW_BYTES = 350
LABEL_BYTES = 300


@dataclass(frozen=True)
class LayerGrid:
    """Number of rows, columns of each layer that takes part, and how the rows are read."""

    n: int
    dims_a: tuple[int, ...]
    dims_b: tuple[int, ...]
    labelled: bool = False
    """True if rows have ids or groups that are used."""
    gathered: bool = False
    """True if rows are paired by id, and so read in another order than they are stored."""
    galleries: tuple[int, ...] = ()
    """Sizes of the smaller galleries that are scored too, ascending."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Number of columns of each layer, of both sides."""
        return (*self.dims_a, *self.dims_b)

    @property
    def cells(self) -> int:
        """Number of layer pairs."""
        return len(self.dims_a) * len(self.dims_b)

    @property
    def cross(self) -> float:
        """Number of entries of all cross-products."""
        return float(sum(self.dims_a) * sum(self.dims_b))

    @property
    def own(self) -> float:
        """Number of entries of all layers' products with themselves."""
        return float(sum(d * d for d in self.dims))

    @property
    def widest(self) -> tuple[int, int]:
        """Number of columns of the widest layer of each side."""
        return max(self.dims_a), max(self.dims_b)


@dataclass(frozen=True)
class Work:
    """Cost of a part of a request."""

    flops: float = 0.0
    seconds: float = 0.0
    kept: float = 0.0
    """Bytes that are held until the job ends."""
    passing: float = 0.0
    """Bytes that are released after the part."""


def count_draws(metric: Metric, options: ScoringOptions) -> int:
    """Return the number of permutations for the null: 0 if it has a closed form."""
    method = metric.nulls[0] if options.null.method == "auto" else options.null.method
    return options.null.permutations if method == "permutation" else 0


def has_interval(options: ScoringOptions) -> bool:
    """Return True if scores have an interval that is computed by leaving rows out."""
    return options.interval is not None and options.interval.target != "gallery"


def pass_seconds(grid: LayerGrid, dims: Sequence[int], *, streamed: bool) -> float:
    """Return the seconds of one pass over some layers."""
    gather = GATHER_S * grid.n * len(dims) if streamed and grid.gathered else 0.0
    return VALUE_S * grid.n * sum(dims) + gather


def rows_in_memory(grid: LayerGrid) -> int:
    """Return the bytes of the prepared rows of the layers that are held at a time, on both sides."""
    sizes = [[FLOAT32_BYTES * grid.n * d for d in dims] for dims in (grid.dims_a, grid.dims_b)]
    return sum(min(sum(side), PREPARED_BYTES + max(side)) for side in sizes)
