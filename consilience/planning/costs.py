"""Costs of the parts of a request: operations, seconds and bytes, computed from the shapes of its layers alone."""

from collections.abc import Sequence
from math import ceil

from consilience.contract.alignments import ScoringOptions
from consilience.contract.kernel_metrics import Rsa
from consilience.contract.metric import Metric, NeighbourMetric
from consilience.contract.subspace_metrics import LinearPredictivity
from consilience.limits import (
    BLOCK_ROWS,
    BLOCK_VALUES,
    EXACT_WORK,
    FLOAT32_BYTES,
    FLOAT64_BYTES,
    FOLDS,
    MATRICES_BYTES,
    POINTS_BYTES,
    REPEATS,
    RSA_PAIRS,
    RSA_ROWS,
)
from consilience.planning.neighbour_costs import cost_lists, cost_search
from consilience.planning.work import (
    EXACT_FLOPS_PER_S,
    GATHER_S,
    JOB_S,
    LABEL_BYTES,
    PRODUCT_FLOPS_PER_S,
    ROW_BYTES,
    LayerGrid,
    Work,
    count_draws,
    has_interval,
    pass_seconds,
    rows_in_memory,
)

#: Memory of a job's process without any rows, but with libraries and compiled kernels.
PROCESS_BYTES = 280_000_000
#: Number of float32 copies of a block of rows at a time: two sides, two blocks, raw and centred.
BLOCK_COPIES = 14
#: Operations and seconds for each pair of rows of a metric of all pairs; bytes of blocks of pairs.
PAIR_STEPS, PAIR_S = 20.0, 6.0e-9
PAIR_BLOCKS_BYTES = 300_000_000
#: Seconds to rank a pair of rows for rsa, and bytes while it is ranked.
RSA_PAIR_S, RSA_PAIR_BYTES = 1.0e-7, 60
#: Operations for each entry and singular value of a cross-product, and for each cubed dimension of a decomposition.
VALUES_STEPS, DECOMPOSITION_STEPS = 15.0, 12.0
#: Number of fits on parts of the rows that an interval needs, and of passes over streamed rows.
REFITS, STREAMED_REFIT_PASSES = FOLDS * REPEATS, REPEATS


def list_works(options: ScoringOptions, grid: LayerGrid, *, streamed: bool) -> list[Work]:
    """List the costs of the parts of a request, with its rows read in blocks or held in memory."""
    works = [_rows(options, grid, streamed=streamed), cost_search(options, grid, streamed=streamed)]
    kernels: set[str] = set()
    for metric in options.metrics:
        if isinstance(metric, NeighbourMetric):
            works.append(cost_lists(metric, options, grid))
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


def sum_works(works: Sequence[Work]) -> tuple[float, float, int]:
    """Return operations, seconds and peak bytes: permanent memory adds up, of transient memory the largest part counts."""
    return (
        sum(work.flops for work in works),
        JOB_S + sum(work.seconds for work in works),
        int(PROCESS_BYTES + sum(work.kept for work in works) + max(work.passing for work in works)),
    )


def _rows(options: ScoringOptions, grid: LayerGrid, *, streamed: bool) -> Work:
    """Cost of reading, checking for duplicates, clamping, preparing and scanning: all that grows with the rows alone."""
    passes = 3.0 + (8.0 if options.preparation.profile in ("prh", "prh_exact") else 0.0)
    kept = float(grid.n * (ROW_BYTES + (LABEL_BYTES if grid.labelled else 0)))
    if not streamed:
        kept += rows_in_memory(grid)
    blocks = BLOCK_COPIES * max(_block_bytes(d) for d in grid.dims)
    return Work(seconds=passes * pass_seconds(grid, grid.dims, streamed=streamed), kept=kept + blocks)


def _block_bytes(dim: int) -> float:
    return FLOAT32_BYTES * min(BLOCK_ROWS, max(1, BLOCK_VALUES // dim)) * dim


def _features(metric: Metric, options: ScoringOptions, grid: LayerGrid, *, streamed: bool, known: bool) -> Work:
    """Cost of products of the features, or of blocks of all pairs if these are less work; the interval is of one pair."""
    n, (p, q) = float(grid.n), grid.widest
    draws = count_draws(metric, options)
    values = 0.0 if known else 2 * n * (grid.cross + grid.own)
    blocks = n * n * (1.5 * sum(grid.dims) + 4 * len(grid.dims) ** 2)
    by_blocks = not streamed and blocks < 2 * n * (grid.cross + grid.own)
    if by_blocks:
        values = 0.0 if known else blocks
    bounds = 2 * n * (p * p + q * q + p * q) if has_interval(options) else 0.0
    if by_blocks:
        bounds = min(bounds, n * n * (2.0 * (p + q) + PAIR_STEPS))
    draw = n * n * grid.cells if n * n <= 4 * p * q else 2 * n * grid.cross
    flops = values + bounds + draw * draws
    passes = (0 if known else grid.cells) + (1 if bounds else 0) + draws * grid.cells
    seconds = flops / PRODUCT_FLOPS_PER_S + passes * pass_seconds(grid, (p, q), streamed=streamed)
    if streamed:
        seconds += draws * grid.cells * GATHER_S * n
    entries = p * p + q * q + p * q
    crosses = FLOAT64_BYTES * 4 * entries
    matrices = min(MATRICES_BYTES, FLOAT64_BYTES * n * n * len(grid.dims)) + min(PAIR_BLOCKS_BYTES, 24 * n * n)
    return Work(flops, seconds, kept=FLOAT64_BYTES * 2 * n * len(grid.dims), passing=max(crosses, matrices * by_blocks))


def _decompose(n: float, d: int, rank: float | None = None) -> tuple[float, float]:
    """Return the float64 operations to decompose one layer in memory: products with the rows, and of the smaller square."""
    small = min(n, d)
    return 2 * n * d * (small + 3 * min(small, rank or small)), DECOMPOSITION_STEPS * small**3


def _fit(metric: Metric, options: ScoringOptions, grid: LayerGrid, *, streamed: bool) -> Work:
    """Cost of a factor for each layer and a small matrix for each pair; the interval fits parts of one pair's rows again."""
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
        passes = grid.cells + (STREAMED_REFIT_PASSES if has_interval(options) else 0) + draws * grid.cells
        flops = 2 * n * (grid.cross * (1 + draws) + grid.own) + cubes + svd * (1 + draws)
        if has_interval(options):
            flops += STREAMED_REFIT_PASSES * 2 * n * entries + refits
        seconds = flops / EXACT_FLOPS_PER_S + passes * pass_seconds(grid, (p, q), streamed=True)
        seconds += draws * grid.cells * GATHER_S * n
        sums = FLOAT64_BYTES * entries * (2 * REFITS + 6)
        mappings = FLOAT64_BYTES * 4 * sum(d * d for d in grid.dims)
        return Work(flops, seconds, kept=mappings, passing=sums)
    scores = sum(ranks_a) + sum(ranks_b)
    layers = sum(sum(_decompose(n, d, kept)) for d in grid.dims)
    flops = layers + (1 + draws) * (svd + sum(2 * n * r * s for r, s in pairs))
    if has_interval(options):
        flops += REFITS * (sum(_decompose(n, p, kept)) + sum(_decompose(n, q, kept))) + refits
    # The spectrum, and the factor of each metric; five arrays of that size while a spectrum is computed.
    small = FLOAT64_BYTES * 8 * (min(p, grid.n) ** 2 + min(q, grid.n) ** 2)
    return Work(
        flops,
        flops / EXACT_FLOPS_PER_S,
        kept=FLOAT64_BYTES * 2 * n * scores,
        passing=FLOAT64_BYTES * 6 * n * (max(p, q) + min(p, q) / 2) + small,
    )


def _ridge(metric: LinearPredictivity, options: ScoringOptions, grid: LayerGrid, *, streamed: bool) -> Work:
    """Cost of the folds of each layer, and of permutations and other random splits for the best pair."""
    n, (p, q), folds = float(grid.n), grid.widest, metric.folds
    splits = max(2, ceil(10 / folds)) if has_interval(options) else 1
    draws = count_draws(metric, options)
    cubes = folds * (DECOMPOSITION_STEPS * max(p, q) ** 3 + 4.0 * p * q * max(p, q))
    entries = p * p + q * q + p * q
    rounds = 2.0 * grid.cells * (1 + draws) + 2.0 * (splits - 1)
    if streamed:
        flops = rounds * (2 * n * entries + cubes)
        seconds = flops / EXACT_FLOPS_PER_S + rounds * pass_seconds(grid, (p, q), streamed=True)
        seconds += 2 * draws * grid.cells * GATHER_S * n
        return Work(flops, seconds, passing=FLOAT64_BYTES * entries * (2 * folds + 6))
    layers = folds * sum(sum(_decompose(n, d)) for d in grid.dims)
    flops = layers * splits + folds * rounds * 6 * n * p * q
    held = FLOAT64_BYTES * folds * n * sum(min(d, grid.n) for d in grid.dims)
    targets = FLOAT64_BYTES * n * sum(grid.dims)
    passing = FLOAT64_BYTES * n * (4 * (p + q) + folds * max(p, q))
    return Work(flops, flops / EXACT_FLOPS_PER_S, kept=held + targets, passing=passing)


def _pairs(metric: Metric, options: ScoringOptions, grid: LayerGrid, *, streamed: bool) -> Work:
    """Cost of blocks of all pairs of rows; the rows of a run of layers are in memory, even if rows are read in blocks."""
    n, draws = float(grid.n), count_draws(metric, options)
    rounds = 1 + draws + (1 if has_interval(options) else 0)
    products = 2.0 * n * n * sum(grid.dims) * (1 + (0 if _fits_in_memory(grid) else draws))
    flops = products + PAIR_STEPS * n * n * rounds * grid.cells
    points = sum(
        min(FLOAT64_BYTES * n * sum(dims), POINTS_BYTES + _point_bytes(grid.n, max(dims)))
        for dims in (grid.dims_a, grid.dims_b)
    )
    whole = _fits_in_memory(grid) and (draws > 0 or n * len(grid.dims) < sum(grid.dims))
    matrices = min(MATRICES_BYTES, FLOAT64_BYTES * n * n * len(grid.dims)) if whole else 0
    blocks = min(PAIR_BLOCKS_BYTES, 48 * n * n)
    rows = FLOAT32_BYTES * n * (max(grid.dims_a) + max(grid.dims_b)) if streamed else 0
    seconds = products / PRODUCT_FLOPS_PER_S + PAIR_S * n * n * rounds * grid.cells
    return Work(flops, seconds, kept=matrices + rows, passing=points + blocks)


def _point_bytes(n: int, dim: int) -> float:
    return (FLOAT64_BYTES if 0.5 * n * n * dim <= EXACT_WORK else FLOAT32_BYTES) * float(n) * dim


def _fits_in_memory(grid: LayerGrid) -> bool:
    return FLOAT32_BYTES * grid.n**2 * len(grid.dims) <= MATRICES_BYTES


def _rsa(metric: Rsa, options: ScoringOptions, grid: LayerGrid, *, streamed: bool) -> Work:
    """Cost of ranked dissimilarities within groups of items."""
    n, draws = float(grid.n), count_draws(metric, options)
    every = n * (n - 1) / 2
    wanted = every if metric.pairs == "all" or (metric.pairs == "auto" and grid.n <= RSA_ROWS) else RSA_PAIRS
    pairs = min(every, 2.0 * (metric.pairs if isinstance(metric.pairs, int) else wanted))
    makes = 1 + (draws if pairs < every else 0)
    flops = 4 * pairs * sum(grid.dims) * makes + PAIR_STEPS * 10 * pairs * len(grid.dims) * (1 + draws)
    seconds = flops / PRODUCT_FLOPS_PER_S + 3 * pass_seconds(grid, grid.dims, streamed=streamed)
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
