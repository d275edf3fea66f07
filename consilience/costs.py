"""What a request's parts cost: operations, seconds and bytes, from the shapes of its layers alone.

Unit costs were measured on two cores of a Xeon with AVX-512 (`benchmarks/costs.py` measures them again); seconds are within a
factor of about three elsewhere. Bytes are bounds: no job of the tests takes more than its plan says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import NormalDist

from consilience.contract.jobs import ScoringOptions
from consilience.contract.kernel_metrics import Cknna, Rsa
from consilience.contract.metric import Metric, NeighbourMetric
from consilience.contract.neighbour_metrics import SecondOrderCosine
from consilience.contract.search import QUERIES_PILOT, Approximate, Estimate
from consilience.contract.subspace_metrics import LinearPredictivity
from consilience.index_costs import count_candidates, index_costs

#: Operations a second of a search, of products in float32 and float64, and of compiled loops.
SEARCH_FLOPS_PER_S = 3.0e11
PRODUCT_FLOPS_PER_S = 1.2e11
EXACT_FLOPS_PER_S = 6.0e10
STEPS_PER_S = 3.0e8
#: And of an index, which is trained by one thread and jumps from row to row.
INDEX_FLOPS_PER_S = 4.0e10
#: Seconds that a job costs whatever its size, and each value that is read, prepared or centred once.
JOB_S = 0.15
VALUE_S = 5.0e-9
#: Seconds to fetch a row by its number from a file.
GATHER_S = 3.0e-6

#: Bytes of a job's process before it holds any rows, libraries and compiled kernels included.
PROCESS_BYTES = 280_000_000
#: Bytes for each row, of the vectors that scores, nulls and intervals are made of; of its id and group where it has them.
ROW_BYTES = 350
LABEL_BYTES = 300
FLOAT32_BYTES, FLOAT64_BYTES = 4, 8
#: Prepared rows kept on each side beyond the layer in use, where rows are in memory.
PREPARED_BYTES = 512_000_000
#: Values of a block of rows, and how many float32 copies of one there are at a time: two sides, two blocks, raw and centred.
BLOCK_VALUES, BLOCK_ROWS, BLOCK_COPIES = 1 << 22, 4096, 14
#: An id and a similarity; lists are kept and cut to the request's length.
NEIGHBOUR_BYTES, LIST_COPIES = 8, 3
#: Neighbours kept per row for each one asked for, because the interval needs them.
LIST_FACTOR, LIST_MIN = 5, 48
#: Rows from which intervals of neighbour scores need shorter lists.
HALVES_ROWS_MAX, BLOCKS_FACTOR, BLOCKS_MIN = 8192, 2, 24
#: Bytes of n x n similarities kept on both sides, and of a search's blocks.
SQUARES_BYTES, SEARCH_BYTES = 256_000_000, 200_000_000
#: Operations and seconds a pair of rows, where all pairs are looked at; bytes of kept matrices, and of blocks of pairs.
PAIR_STEPS, PAIR_S = 20.0, 6.0e-9
MATRICES_BYTES, POINTS_BYTES, PAIR_BLOCKS_BYTES = 600_000_000, 256_000_000, 300_000_000
#: Rows up to which rsa takes all pairs, and the pairs it takes above; seconds to rank a pair, and bytes while it is ranked.
RSA_ROWS, RSA_PAIRS, RSA_PAIR_S, RSA_PAIR_BYTES = 4096, 4_000_000, 1.0e-7, 60
#: Subsamples of the interval of a neighbour score, up to so many rows and above.
HALVES, BLOCKS = 64, 10
#: Operations for each entry and singular value of a cross-product; of a decomposition, for each cubed dimension.
VALUES_STEPS, DECOMPOSITION_STEPS = 15.0, 12.0
#: Fits that an interval makes of parts of the rows, passes that it takes over streamed rows.
REFITS, STREAMED_REFIT_PASSES = 10, 2
#: Standard deviation of row scores that an estimate is planned with, and the largest that scores between 0 and 1 can have.
ROW_SCORE_SD, ROW_SCORE_SD_MAX = 0.15, 0.5


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


def find_works(options: ScoringOptions, grid: Grid, *, streamed: bool) -> list[Work]:
    """What each part of a request costs, its rows read by blocks or held in memory."""
    works = [_rows(options, grid, streamed=streamed), _search(options, grid, streamed=streamed)]
    kernels: set[str] = set()
    for metric in options.metrics:
        if isinstance(metric, NeighbourMetric):
            works.append(_lists(metric, options, grid))
        elif metric.work_kind == "features":
            works.append(_features(metric, options, grid, streamed=streamed, known="linear" in kernels))
            kernels.add("linear")
        elif isinstance(metric, LinearPredictivity):
            works.append(_ridge(metric, options, grid, streamed=streamed))
        elif metric.work_kind == "fit":
            works.append(_fit(metric, options, grid, streamed=streamed))
        elif isinstance(metric, Rsa):
            works.append(_rsa(metric, options, grid, streamed=streamed))
        else:
            works.append(_pairs(metric, options, grid, streamed=streamed))
    return works


def add_up(works: Sequence[Work]) -> tuple[float, float, int]:
    """Operations, seconds and peak bytes: what is kept adds up, of what is given back the most counts."""
    return (
        sum(work.flops for work in works),
        JOB_S + sum(work.seconds for work in works),
        int(PROCESS_BYTES + sum(work.kept for work in works) + max(work.passing for work in works)),
    )


def expect_queries(estimate: Estimate, n: int, sd: float = ROW_SCORE_SD) -> int:
    """How many of n rows ask until an interval is as narrow as wanted, where row scores have a standard deviation."""
    if estimate.half_width is None:
        return min(n, estimate.queries or n)
    quantile = NormalDist().inv_cdf((1 + estimate.level) / 2)
    wanted = max(QUERIES_PILOT, ceil((quantile * sd / estimate.half_width) ** 2))
    return n if 2 * wanted >= n else wanted


def _count_queries(options: ScoringOptions, n: int) -> int:
    return n if options.estimate == "all" else expect_queries(options.estimate, n)


def _count_second(options: ScoringOptions, asked: int, n: int) -> int:
    """Rows that are searched because others named them: the neighbours' own neighbours, for the metrics that look there."""
    ks = [max(metric.k) for metric in options.metrics if isinstance(metric, NeighbourMetric) and metric.returns]
    return min(n, asked * max(ks, default=0))


def count_draws(metric: Metric, options: ScoringOptions) -> int:
    """Relabellings that the null takes: none where it has a closed form."""
    method = metric.nulls[0] if options.null.method == "auto" else options.null.method
    return options.null.draws if method == "permutation" else 0


def _has_interval(options: ScoringOptions) -> bool:
    return options.interval is not None and options.interval.target != "gallery"


def _value_s(grid: Grid, dims: Sequence[int], *, streamed: bool) -> float:
    """Seconds of one pass over some layers."""
    gather = GATHER_S * grid.n * len(dims) if streamed and grid.gathered else 0.0
    return VALUE_S * grid.n * sum(dims) + gather


def _block_bytes(dim: int) -> float:
    return FLOAT32_BYTES * min(BLOCK_ROWS, max(1, BLOCK_VALUES // dim)) * dim


def _rows(options: ScoringOptions, grid: Grid, *, streamed: bool) -> Work:
    """Read, look for duplicates, clamp, prepare and scan; everything that grows with the rows alone."""
    passes = 3.0 + (8.0 if options.preparation.profile in ("prh", "prh_exact") else 0.0)
    kept = float(grid.n * (ROW_BYTES + (LABEL_BYTES if grid.labelled else 0)))
    if not streamed:
        kept += _rows_in_memory(grid)
    blocks = BLOCK_COPIES * max(_block_bytes(d) for d in grid.dims)
    return Work(seconds=passes * _value_s(grid, grid.dims, streamed=streamed), kept=kept + blocks)


def _rows_in_memory(grid: Grid) -> int:
    """Bytes of prepared rows, of as many layers of both sides as are held at a time."""
    sizes = [[FLOAT32_BYTES * grid.n * d for d in dims] for dims in (grid.dims_a, grid.dims_b)]
    return sum(min(sum(side), PREPARED_BYTES + max(side)) for side in sizes)


def _list_length(options: ScoringOptions, grid: Grid) -> int:
    k_max = max((max(metric.k) for metric in options.metrics if isinstance(metric, NeighbourMetric)), default=0)
    if not _has_interval(options) or k_max == 0 or isinstance(options.builder, Approximate):
        return k_max
    if grid.n > HALVES_ROWS_MAX:
        return min(grid.n, max(BLOCKS_MIN, BLOCKS_FACTOR * k_max))
    return min(grid.n, max(LIST_MIN, LIST_FACTOR * k_max))


def _search(options: ScoringOptions, grid: Grid, *, streamed: bool) -> Work:
    """One search a layer serves every neighbour metric, k and null."""
    k_max = max((max(metric.k) for metric in options.metrics if isinstance(metric, NeighbourMetric)), default=0)
    if k_max == 0:
        return Work()
    if isinstance(options.builder, Approximate):
        return _approximate(options.builder, grid, k_max)
    n, layers, widest = grid.n, len(grid.dims), max(grid.dims)
    largest = max(grid.galleries, default=0)
    if (asked := _count_queries(options, n)) < n:
        told = asked + _count_second(options, asked, n)
        entries, pairs = told * k_max * (1 + len(grid.galleries)), float(told) * n
        passing = SEARCH_BYTES + FLOAT32_BYTES * told * widest
    else:
        told = largest + _count_second(options, largest, largest)
        entries = n * _list_length(options, grid) + told * k_max * len(grid.galleries)
        pairs = float(n) * n + float(told) * largest
        held = 0
        if streamed:  # a graph is built of all rows of one layer; to look rows up, those of both sides are held
            looked_up = any(isinstance(metric, Cknna | SecondOrderCosine) for metric in options.metrics)
            held = _rows_in_memory(grid) if looked_up else FLOAT32_BYTES * n * widest
        passing = SEARCH_BYTES + held + min(SQUARES_BYTES, FLOAT32_BYTES * n * n * layers)
    flops = 2.0 * pairs * sum(grid.dims)
    seconds = flops / SEARCH_FLOPS_PER_S + _value_s(grid, grid.dims, streamed=streamed)
    return Work(flops, seconds, kept=float(NEIGHBOUR_BYTES * LIST_COPIES * entries * layers), passing=passing)


def _approximate(choice: Approximate, grid: Grid, k_max: int) -> Work:
    """An index a layer, one after the other; rows that are not in memory are fetched to rank the candidates."""
    flops, size = index_costs(choice, grid.n, grid.dims, k_max)
    fetched = sum(
        count_candidates(choice, grid.n, d, k_max) for d in grid.dims if FLOAT32_BYTES * grid.n * d > PREPARED_BYTES
    )
    seconds = flops / INDEX_FLOPS_PER_S + 2 * _value_s(grid, grid.dims, streamed=True) + GATHER_S * fetched
    kept = float(NEIGHBOUR_BYTES * LIST_COPIES * grid.n * k_max * len(grid.dims))
    return Work(flops, seconds, kept=kept, passing=SEARCH_BYTES + size)


def _lists(metric: NeighbourMetric, options: ScoringOptions, grid: Grid) -> Work:
    asked = _count_queries(options, grid.n)
    n, draws = float(asked), count_draws(metric, options) if asked == grid.n else 0
    steps = n * max(metric.k) * (sum(metric.k) if metric.k_squared else len(metric.k))
    steps *= (1 + draws) * (grid.cells if metric.k_squared else len(grid.dims))
    bounds = 0.0
    if _has_interval(options) and asked == grid.n and not isinstance(options.builder, Approximate):
        parts = HALVES if grid.n <= HALVES_ROWS_MAX else BLOCKS
        widths = (2 * _list_length(options, grid) + k * (k if metric.k_squared else 1) for k in metric.k)
        bounds = parts * n * sum(widths)
    return Work(steps, (steps + bounds) / STEPS_PER_S, passing=NEIGHBOUR_BYTES * LIST_COPIES * n * max(metric.k))


def _features(metric: Metric, options: ScoringOptions, grid: Grid, *, streamed: bool, known: bool) -> Work:
    """Products of the features, or of blocks of all pairs where these are less work; the interval's are of one pair."""
    n, (p, q) = float(grid.n), grid.widest
    draws = count_draws(metric, options)
    values = 0.0 if known else 2 * n * (grid.cross + grid.own)
    blocks = n * n * (1.5 * sum(grid.dims) + 4 * len(grid.dims) ** 2)
    by_blocks = not streamed and blocks < 2 * n * (grid.cross + grid.own)
    if by_blocks:
        values = 0.0 if known else blocks
    bounds = 2 * n * (p * p + q * q + p * q) if _has_interval(options) else 0.0
    if by_blocks:
        bounds = min(bounds, n * n * (2.0 * (p + q) + PAIR_STEPS))
    draw = n * n * grid.cells if n * n <= 4 * p * q else 2 * n * grid.cross
    flops = values + bounds + draw * draws
    passes = (0 if known else grid.cells) + (1 if bounds else 0) + draws * grid.cells
    seconds = flops / PRODUCT_FLOPS_PER_S + passes * _value_s(grid, (p, q), streamed=streamed)
    if streamed:
        seconds += draws * grid.cells * GATHER_S * n
    entries = p * p + q * q + p * q
    crosses = FLOAT64_BYTES * 4 * entries
    matrices = min(MATRICES_BYTES, FLOAT64_BYTES * n * n * len(grid.dims)) + min(PAIR_BLOCKS_BYTES, 24 * n * n)
    return Work(flops, seconds, kept=FLOAT64_BYTES * 2 * n * len(grid.dims), passing=max(crosses, matrices * by_blocks))


def _decompose(n: float, d: int, rank: float | None = None) -> tuple[float, float]:
    """Operations in float64 of decomposing one layer in memory: products with the rows, and of the smaller square."""
    small = min(n, d)
    return 2 * n * d * (small + 3 * min(small, rank or small)), DECOMPOSITION_STEPS * small**3


def _fit(metric: Metric, options: ScoringOptions, grid: Grid, *, streamed: bool) -> Work:
    """A factor a layer, a small matrix a pair; the interval fits again on parts of the rows of one pair."""
    n, (p, q) = float(grid.n), grid.widest
    kept = min(grid.n, getattr(metric, "components", None) or grid.n)
    ranks_a, ranks_b = ([min(d, grid.n, kept) for d in dims] for dims in (grid.dims_a, grid.dims_b))
    pairs = [(r, s) for r in ranks_a for s in ranks_b]
    draws = count_draws(metric, options)
    svd = sum(VALUES_STEPS * r * s * min(r, s) for r, s in pairs)
    cubes = sum(DECOMPOSITION_STEPS * min(d, grid.n) ** 3 for d in grid.dims)
    refits = REFITS * (DECOMPOSITION_STEPS * (min(p, n) ** 3 + min(q, n) ** 3) + VALUES_STEPS * p * q * min(p, q))
    entries = p * p + q * q + p * q
    if streamed:
        passes = grid.cells + (STREAMED_REFIT_PASSES if _has_interval(options) else 0) + draws * grid.cells
        flops = 2 * n * (grid.cross * (1 + draws) + grid.own) + cubes + svd * (1 + draws)
        if _has_interval(options):
            flops += STREAMED_REFIT_PASSES * 2 * n * entries + refits
        seconds = flops / EXACT_FLOPS_PER_S + passes * _value_s(grid, (p, q), streamed=True)
        seconds += draws * grid.cells * GATHER_S * n
        sums = FLOAT64_BYTES * entries * (2 * REFITS + 6)
        mappings = FLOAT64_BYTES * 4 * sum(d * d for d in grid.dims)
        return Work(flops, seconds, kept=mappings, passing=sums)
    scores = sum(ranks_a) + sum(ranks_b)
    layers = sum(sum(_decompose(n, d, kept)) for d in grid.dims)
    flops = layers + (1 + draws) * (svd + sum(2 * n * r * s for r, s in pairs))
    if _has_interval(options):
        flops += REFITS * (sum(_decompose(n, p, kept)) + sum(_decompose(n, q, kept))) + refits
    # The spectrum, and what each metric makes of it; while one is found, five arrays of that size.
    small = FLOAT64_BYTES * 8 * (min(p, grid.n) ** 2 + min(q, grid.n) ** 2)
    return Work(
        flops,
        flops / EXACT_FLOPS_PER_S,
        kept=FLOAT64_BYTES * 2 * n * scores,
        passing=FLOAT64_BYTES * 6 * n * (max(p, q) + min(p, q) / 2) + small,
    )


def _ridge(metric: LinearPredictivity, options: ScoringOptions, grid: Grid, *, streamed: bool) -> Work:
    """Folds of each layer; draws and other dealings of the folds for the best pair."""
    n, (p, q), folds = float(grid.n), grid.widest, metric.folds
    dealings = max(2, ceil(10 / folds)) if _has_interval(options) else 1
    draws = count_draws(metric, options)
    cubes = folds * (DECOMPOSITION_STEPS * max(p, q) ** 3 + 4.0 * p * q * max(p, q))
    entries = p * p + q * q + p * q
    rounds = 2.0 * grid.cells * (1 + draws) + 2.0 * (dealings - 1)
    if streamed:
        flops = rounds * (2 * n * entries + cubes)
        seconds = flops / EXACT_FLOPS_PER_S + rounds * _value_s(grid, (p, q), streamed=True)
        seconds += 2 * draws * grid.cells * GATHER_S * n
        return Work(flops, seconds, passing=FLOAT64_BYTES * entries * (2 * folds + 6))
    layers = folds * sum(sum(_decompose(n, d)) for d in grid.dims)
    flops = layers * dealings + folds * rounds * 6 * n * p * q
    held = FLOAT64_BYTES * folds * n * sum(min(d, grid.n) for d in grid.dims)
    targets = FLOAT64_BYTES * n * sum(grid.dims)
    passing = FLOAT64_BYTES * n * (4 * (p + q) + folds * max(p, q))
    return Work(flops, flops / EXACT_FLOPS_PER_S, kept=held + targets, passing=passing)


def _pairs(metric: Metric, options: ScoringOptions, grid: Grid, *, streamed: bool) -> Work:
    """Blocks of all pairs of rows; the rows of a run of layers are in memory, read by blocks or not."""
    n, draws = float(grid.n), count_draws(metric, options)
    rounds = 1 + draws + (1 if _has_interval(options) else 0)
    products = 2.0 * n * n * sum(grid.dims) * (1 + (0 if _room(grid) else draws))
    flops = products + PAIR_STEPS * n * n * rounds * grid.cells
    points = sum(
        min(FLOAT64_BYTES * n * sum(dims), POINTS_BYTES + FLOAT64_BYTES * n * max(dims))
        for dims in (grid.dims_a, grid.dims_b)
    )
    whole = _room(grid) and (draws > 0 or n * len(grid.dims) < sum(grid.dims))
    matrices = min(MATRICES_BYTES, FLOAT64_BYTES * n * n * len(grid.dims)) if whole else 0
    blocks = min(PAIR_BLOCKS_BYTES, 48 * n * n)
    rows = FLOAT32_BYTES * n * (max(grid.dims_a) + max(grid.dims_b)) if streamed else 0
    seconds = products / PRODUCT_FLOPS_PER_S + PAIR_S * n * n * rounds * grid.cells
    return Work(flops, seconds, kept=matrices + rows, passing=points + blocks)


def _room(grid: Grid) -> bool:
    return FLOAT32_BYTES * grid.n**2 * len(grid.dims) <= MATRICES_BYTES


def _rsa(metric: Rsa, options: ScoringOptions, grid: Grid, *, streamed: bool) -> Work:
    """Dissimilarities within groups of items, ranked."""
    n, draws = float(grid.n), count_draws(metric, options)
    every = n * (n - 1) / 2
    wanted = every if metric.pairs == "all" or (metric.pairs == "auto" and grid.n <= RSA_ROWS) else RSA_PAIRS
    pairs = min(every, 2.0 * (metric.pairs if isinstance(metric.pairs, int) else wanted))
    makes = 1 + (draws if pairs < every else 0)
    flops = 4 * pairs * sum(grid.dims) * makes + PAIR_STEPS * 10 * pairs * len(grid.dims) * (1 + draws)
    seconds = flops / PRODUCT_FLOPS_PER_S + 3 * _value_s(grid, grid.dims, streamed=streamed)
    seconds += RSA_PAIR_S * pairs * len(grid.dims) * makes
    if streamed:
        seconds += GATHER_S * n * len(grid.dims) * makes
    points = 0.0 if streamed else 2.0 * FLOAT64_BYTES * n * max(grid.dims)
    return Work(
        flops,
        seconds,
        kept=FLOAT64_BYTES * 2 * pairs * len(grid.dims) + 200 * n * len(grid.dims),
        passing=points + RSA_PAIR_BYTES * pairs,
    )
