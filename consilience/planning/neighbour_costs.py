"""Costs of neighbour graphs and lists, exact and approximate: one search of a layer serves every metric, k and null.

An approximate graph costs the training of its index, filling it, searching it, and measuring its recall.
"""

from collections.abc import Sequence
from math import ceil, isqrt
from statistics import NormalDist

from consilience.contract.alignments import ScoringOptions
from consilience.contract.kernel_metrics import Cknna
from consilience.contract.metric import NeighbourMetric
from consilience.contract.neighbour_metrics import SecondOrderCosine
from consilience.contract.search import (
    CODE_BITS,
    QUERIES_PILOT,
    Approximate,
    ChosenIndex,
    Estimate,
    IndexShape,
    choose_index,
)
from consilience.limits import (
    BEYOND_MAX,
    BEYOND_MIN,
    BLOCKS,
    BLOCKS_FACTOR,
    BLOCKS_LIST_MIN,
    CERTIFIED_STEPS,
    FLOAT32_BYTES,
    HALVES,
    HALVES_FACTOR,
    HALVES_LIST_MIN,
    HALVES_ROWS_MAX,
    PART_STEPS,
    POINTS_PER_CENTROID,
    POINTS_PER_COLUMN,
    PREPARED_BYTES,
    SAMPLE_MIN,
    SQUARE_BYTES,
    STRIPES_MAX,
    TILE_ROWS,
    TURN_ROUNDS,
)
from consilience.planning.work import (
    GATHER_S,
    SEARCH_FLOPS_PER_S,
    STEPS_PER_S,
    LayerGrid,
    Work,
    count_draws,
    has_interval,
    pass_seconds,
    rows_in_memory,
)

#: Rounds of k-means for lists and for codes; passes over a matrix for its singular values.
LIST_ROUNDS = 10
WORD_ROUNDS = 25
TURN_PASSES = 30
#: Breadth of the search that links a new row of an HNSW index.
LINKING_BREADTH = 40
ID_BYTES = 8


def index_costs(choice: Approximate, n: int, dims: Sequence[int], k: int) -> tuple[float, int]:
    """Return the operations for the graphs of layers with `dims` columns, and the bytes of the largest index.

    Raises
    ------
    InvalidRequest
        The index does not suit a layer's rows.
    """
    indexes = [(choose_index(choice, n, dim, k), dim) for dim in dims]
    flops = sum(index_flops(index, n, dim, k, choice.recall_queries) for index, dim in indexes)
    return flops, max(index_bytes(index, n, dim) for index, dim in indexes)


def count_candidates(choice: Approximate, n: int, d: int, k: int) -> int:
    """Return the number of candidates of the index that are ranked by their rows."""
    return n * choose_index(choice, n, d, k).shape.candidate_factor * k


def index_flops(index: ChosenIndex, n: int, d: int, k: int, recall_queries: int) -> float:
    """Return the number of floating-point operations for a graph of k neighbours among n rows of d columns."""
    shape, dim = index.shape, index.shape.transform_dim or d
    ranked = n * shape.candidate_factor * k
    recall = min(n, recall_queries) * n
    return _training_flops(shape, n, d) + 2.0 * dim * _count_compared(index, n, k) + 2.0 * d * (ranked + recall)


def index_bytes(index: ChosenIndex, n: int, d: int) -> int:
    """Size of the index and of the sample that it is trained on."""
    shape, dim = index.shape, index.shape.transform_dim or d
    links = 2 * FLOAT32_BYTES * (shape.links or 0)
    codes = n * (shape.code_bits(d) // 8 + links + ID_BYTES)
    return codes + FLOAT32_BYTES * ((shape.lists or 0) * dim + 2 * _count_training_rows(shape, n, d) * max(d, dim))


def _count_training_rows(shape: IndexShape, n: int, d: int) -> int:
    """Return the number of rows of the training sample."""
    words = 2**shape.bits if shape.segments is not None else 0
    turn_words = 2**CODE_BITS if shape.transform_segments is not None else 0
    centroids = max(shape.lists or 0, words, turn_words)
    return min(n, max(SAMPLE_MIN, POINTS_PER_CENTROID * centroids, POINTS_PER_COLUMN * d))


def _training_flops(shape: IndexShape, n: int, d: int) -> float:
    points, dim = _count_training_rows(shape, n, d), shape.transform_dim or d
    words = WORD_ROUNDS * 2.0**shape.bits if shape.segments is not None else 0.0
    turn = 0.0
    if shape.transform is not None:
        rounds = TURN_ROUNDS if shape.transform == "OPQ" else 1
        learnt = WORD_ROUNDS * 2.0**CODE_BITS if shape.transform == "OPQ" else 0.0
        turn = rounds * (TURN_PASSES * float(max(d, dim)) ** 3 + 2 * points * dim * (d + learnt)) + 4.0 * n * d * dim
    return turn + 2.0 * points * dim * (LIST_ROUNDS * (shape.lists or 0) + words)


def _count_compared(index: ChosenIndex, n: int, k: int) -> float:
    """Return the number of comparisons of all rows with rows and centroids, to fill the index and to search it."""
    shape, effort = index.shape, index.effort or 1
    words = 2.0**shape.bits if shape.segments is not None else 0.0
    if shape.lists is not None:
        probed = effort * n / shape.lists
        # Rows with too few candidates are searched exactly.
        return n * (2.0 * shape.lists + words + (probed if probed > 2 * shape.candidate_factor * k else n))
    if shape.links is not None:
        breadth = max(effort, shape.candidate_factor * k) + LINKING_BREADTH
        return n * (min(float(n), breadth * shape.links) + words)
    return n * (float(n) + words)


#: Operations per second of an index, which is trained by one thread and reads rows in no order.
INDEX_FLOPS_PER_S = 4.0e10
#: Bytes of an id and a similarity, and copies of the lists, which are cut to the length of the request.
NEIGHBOUR_BYTES, LIST_COPIES = 8, 3
#: Bytes of the blocks of a search.
SEARCH_BYTES = 200_000_000
#: Bytes of a candidate, and of a value rounded to bfloat16.
CANDIDATE_BYTES, ROUNDED_BYTES = 8, 2
#: Standard deviation of row scores that is assumed, and the largest one that scores between 0 and 1 can have.
ROW_SCORE_SD, ROW_SCORE_SD_MAX = 0.15, 0.5


def expect_queries(estimate: Estimate, n: int, sd: float = ROW_SCORE_SD) -> int:
    """Return the expected number of query rows for an interval of the requested width."""
    if estimate.half_width is None:
        return min(n, estimate.queries or n)
    quantile = NormalDist().inv_cdf((1 + estimate.level) / 2)
    wanted = max(QUERIES_PILOT, ceil((quantile * sd / estimate.half_width) ** 2))
    return n if 2 * wanted >= n else wanted


def count_queries(options: ScoringOptions, n: int) -> int:
    """Return the number of query rows among n rows."""
    return n if options.estimate == "all" else expect_queries(options.estimate, n)


def count_neighbour_queries(options: ScoringOptions, queries: int, n: int) -> int:
    """Return the number of neighbours of queries whose own neighbours some metrics need too."""
    ks = [max(metric.k) for metric in options.metrics if isinstance(metric, NeighbourMetric) and metric.returns]
    return min(n, queries * max(ks, default=0))


def _largest_k(options: ScoringOptions) -> int:
    return max((max(metric.k) for metric in options.metrics if isinstance(metric, NeighbourMetric)), default=0)


def _list_length(options: ScoringOptions, grid: LayerGrid) -> int:
    k_max = _largest_k(options)
    if not has_interval(options) or k_max == 0 or isinstance(options.builder, Approximate):
        return k_max
    if grid.n > HALVES_ROWS_MAX:
        return min(grid.n, max(BLOCKS_LIST_MIN, BLOCKS_FACTOR * k_max))
    return min(grid.n, max(HALVES_LIST_MIN, ceil(HALVES_FACTOR * k_max)))


def cost_search(options: ScoringOptions, grid: LayerGrid, *, streamed: bool) -> Work:
    """Cost of the searches: one search of each layer serves every neighbour metric, k and null."""
    k_max = _largest_k(options)
    if k_max == 0:
        return Work()
    if isinstance(options.builder, Approximate):
        return _approximate(options.builder, grid, k_max)
    n, layers, widest, passes = grid.n, len(grid.dims), max(grid.dims), 1
    largest = max(grid.galleries, default=0)
    if (queries := count_queries(options, n)) < n:
        searched = queries + count_neighbour_queries(options, queries, n)
        entries, pairs = searched * k_max * (1 + len(grid.galleries)), float(searched) * n
        passing = float(SEARCH_BYTES + FLOAT32_BYTES * searched * widest)
    else:
        searched = largest + count_neighbour_queries(options, largest, largest)
        length = _list_length(options, grid)
        entries = n * length + searched * k_max * len(grid.galleries)
        pairs = float(n) * n + float(searched) * largest
        passes += 2 * n // held_rows(options, grid) if streamed else 0
        passing = SEARCH_BYTES + _graph_bytes(options, grid, length, streamed=streamed)
    flops = 2.0 * pairs * sum(grid.dims)
    seconds = flops / SEARCH_FLOPS_PER_S + passes * pass_seconds(grid, grid.dims, streamed=streamed)
    return Work(flops, seconds, kept=float(NEIGHBOUR_BYTES * LIST_COPIES * entries * layers), passing=passing)


def _graph_bytes(options: ScoringOptions, grid: LayerGrid, length: int, *, streamed: bool) -> float:
    """Memory while graphs are built: rows that are read or rounded, candidates, and similarities that are kept."""
    n, widest = grid.n, max(grid.dims)
    sides = (FLOAT32_BYTES * n * n * len(dims) for dims in (grid.dims_a, grid.dims_b))
    candidates = CANDIDATE_BYTES * n * 2 * min(n, length + min(max(length, BEYOND_MIN), BEYOND_MAX))
    rows = FLOAT32_BYTES * held_rows(options, grid) * widest if streamed else 0
    if not streamed and options.builder in ("auto", "verified_bf16") and float(n) * n * widest >= CERTIFIED_STEPS:
        rows = ROUNDED_BYTES * n * widest
    return rows + candidates + sum(size for size in sides if size <= SQUARE_BYTES)


def held_rows(options: ScoringOptions, grid: LayerGrid) -> int:
    """Return the number of rows of the widest layer that are in memory while streamed layers are searched."""
    if any(isinstance(metric, Cknna | SecondOrderCosine) for metric in options.metrics):
        return ceil(rows_in_memory(grid) / (FLOAT32_BYTES * max(grid.dims)))
    if options.builder == "faiss":
        return grid.n
    stripe = max(ceil(grid.n / STRIPES_MAX) + TILE_ROWS, isqrt(int(PART_STEPS / max(grid.dims))))
    return min(grid.n, 2 * stripe)  # one task of a graph covers the tiles of two stripes of rows


def _approximate(choice: Approximate, grid: LayerGrid, k_max: int) -> Work:
    """Cost of an index for each layer, one after the other; rows outside memory are fetched to rank the candidates."""
    flops, size = index_costs(choice, grid.n, grid.dims, k_max)
    fetched = sum(
        count_candidates(choice, grid.n, d, k_max) for d in grid.dims if FLOAT32_BYTES * grid.n * d > PREPARED_BYTES
    )
    seconds = flops / INDEX_FLOPS_PER_S + 2 * pass_seconds(grid, grid.dims, streamed=True) + GATHER_S * fetched
    kept = float(NEIGHBOUR_BYTES * LIST_COPIES * grid.n * k_max * len(grid.dims))
    return Work(flops, seconds, kept=kept, passing=SEARCH_BYTES + size)


def cost_lists(metric: NeighbourMetric, options: ScoringOptions, grid: LayerGrid) -> Work:
    """Cost of one metric of the lists: values, permutations, and subsamples for the interval."""
    queries = count_queries(options, grid.n)
    n, draws = float(queries), count_draws(metric, options) if queries == grid.n else 0
    steps = n * max(metric.k) * (sum(metric.k) if metric.k_squared else len(metric.k))
    steps *= (1 + draws) * (grid.cells if metric.k_squared else len(grid.dims))
    bounds = 0.0
    if has_interval(options) and queries == grid.n and not isinstance(options.builder, Approximate):
        parts = HALVES if grid.n <= HALVES_ROWS_MAX else BLOCKS
        widths = (2 * _list_length(options, grid) + k * (k if metric.k_squared else 1) for k in metric.k)
        bounds = parts * n * sum(widths)
    return Work(steps, (steps + bounds) / STEPS_PER_S, passing=NEIGHBOUR_BYTES * LIST_COPIES * n * max(metric.k))
