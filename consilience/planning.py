"""What a request will cost, and whether it can be answered at all: known before anything is queued.

The API refuses at POST with what stands here; the library asks the same questions before it computes. Standard library and
contract only, so that the API process stays small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal, Self

from consilience.contract.embeddings import DTYPE_BYTES, ROWS_MIN, EmbeddingSet
from consilience.contract.jobs import LayerChoice, Plan, ScoringOptions
from consilience.contract.metric import Metric, NeighbourMetric
from consilience.contract.search import QUERIES_PILOT, Approximate
from consilience.errors import InvalidRequest, TooExpensive, TooFewRows, UnknownLayer, UnpairedSides

#: Operations a second of a flat float32 search on two cores, of products, and of compiled loops; measured on a 2-core Xeon.
SEARCH_FLOPS_PER_S = 1.0e11
PRODUCT_FLOPS_PER_S = 5.0e10
STEPS_PER_S = 3.0e8
#: Seconds that a job costs whatever its size.
JOB_S = 0.05
#: Bytes of a job's process before it holds any rows.
PROCESS_BYTES = 200_000_000
FLOAT32_BYTES = 4
#: An id and a similarity.
NEIGHBOUR_BYTES = 8
#: Neighbours kept per row for each one asked for, because the interval needs them.
LIST_FACTOR = 5
LIST_MIN = 48
#: Operations a pair of rows, in the metrics that look at every pair; bytes of the matrices that they keep at most.
PAIR_STEPS = 20.0
MATRICES_BYTES = 600_000_000
#: Operations for each entry and singular value of a cross-product; fits of a layer that a held-out interval makes.
FIT_STEPS = 15.0
REFITS = 12
#: Standard deviation of row scores, and the normal quantile of the interval, by which a half width is turned into queries.
ROW_SCORE_SD = 0.25
QUANTILE = 2.0
#: Passes over a cross-product that a score with its interval makes.
MOMENT_PASSES = 4


@dataclass(frozen=True)
class SideShape:
    """What planning needs to know of one side: rows, and each layer's name, columns and bytes per number."""

    n: int
    layers: tuple[tuple[str, int], ...]
    item_bytes: int = 4
    unique_ids: int | None = None
    """How many different ids its rows have; None where they have none."""
    has_groups: bool = False

    @classmethod
    def of(cls, embeddings: EmbeddingSet) -> Self:
        """Take the shape of a stored set."""
        widest = max(DTYPE_BYTES[layer.dtype] for layer in embeddings.layers)
        return cls(
            n=embeddings.n,
            layers=tuple((layer.name, layer.dim) for layer in embeddings.layers),
            item_bytes=widest,
            unique_ids=embeddings.ids.unique if embeddings.ids else None,
            has_groups=embeddings.groups is not None,
        )

    def dims(self, names: Sequence[str]) -> list[int]:
        """Columns of the named layers."""
        known = dict(self.layers)
        return [known[name] for name in names]


@dataclass(frozen=True)
class CostLimits:
    """What a single job may cost at most."""

    flops: float
    bytes: int


def choose_layers(choice: LayerChoice, names: Sequence[str], side: str) -> tuple[str, ...]:
    """Turn `last`, `all` or names into names.

    Raises
    ------
    UnknownLayer
        With the layers that there are.
    """
    if choice == "last":
        return (names[-1],)
    if choice == "all":
        return tuple(names)
    for name in choice:
        if name not in names:
            raise UnknownLayer(
                f"Side {side} has no layer {name!r}.",
                value=name,
                hint=f"Its layers are {', '.join(names)}; `last` and `all` work too.",
                pointer=f"/layers/{side}",
            )
    return tuple(dict.fromkeys(choice))


def check_pairing(n_a: int, n_b: int) -> None:
    """Refuse sides that cannot be paired by row."""
    if n_a != n_b:
        raise UnpairedSides(
            f"a has {n_a} rows and b has {n_b}; row i of a must be the same item as row i of b.",
            value=f"{n_a} and {n_b} rows",
            hint="Embed the same items in the same order with both models.",
            pointer="/b",
        )
    _check_rows(n_a)


def count_pairs(pairing: Literal["row", "id"], a: SideShape, b: SideShape) -> int:
    """How many rows the paired sides have: exactly, by row; at most, by id, since ids are not compared here.

    Raises
    ------
    UnpairedSides
        By row: different numbers of rows. By id: an id comes twice on a side without groups.
    InvalidRequest
        By id: a side has no ids.
    TooFewRows
    """
    if pairing == "row":
        check_pairing(a.n, b.n)
        return a.n
    repeats_a, repeats_b = _count_repeats(a, "a"), _count_repeats(b, "b")
    # A row is paired with each row of its id on the other side, and no id may come twice on both.
    if repeats_a and repeats_b:
        n = a.n + b.n
    elif repeats_a or repeats_b:
        n = a.n if repeats_a else b.n
    else:
        n = min(a.n, b.n)
    _check_rows(n)
    return n


def _count_repeats(side: SideShape, name: str) -> int:
    """How many rows of a side have the id of an earlier row."""
    if side.unique_ids is None:
        raise InvalidRequest(
            f"Pairing by id needs ids on both sides, and {name} has none.",
            value="id",
            hint="Upload the side with `ids`, or pair by row.",
            pointer="/pairing",
        )
    repeats = side.n - side.unique_ids
    if repeats and not side.has_groups:
        raise UnpairedSides(
            f"{repeats} of {side.n} rows of {name} have the id of an earlier row.",
            value=f"{side.n} rows, {side.unique_ids} different ids",
            hint="Ids must be unique, unless `groups` says which rows are one item with several captions.",
            pointer=f"/{name}",
        )
    return repeats


def _check_rows(n: int) -> None:
    if n < ROWS_MIN:
        raise TooFewRows(f"There are {n} rows.", value=n, limit=ROWS_MIN, hint="A score needs at least 4 rows.")


def check_neighbours(options: ScoringOptions, neighbours_max: int) -> None:
    """Refuse a k for which there are not enough neighbours: n - 1, or n less the largest group."""
    for index, metric in enumerate(options.metrics):
        for k in metric.k if isinstance(metric, NeighbourMetric) else ():
            if k > neighbours_max:
                raise InvalidRequest(
                    f"k = {k} is too large: a row has only {neighbours_max} neighbours.",
                    value=k,
                    limit=neighbours_max,
                    hint=f"Ask for k of at most {neighbours_max}, or score more rows.",
                    pointer=f"/metrics/{index}/k",
                )


def check_subset(options: ScoringOptions, n: int) -> None:
    """Refuse what cannot be had where only some of n rows ask.

    Raises
    ------
    InvalidRequest
        A null by relabelling, which needs the neighbours of every row; an approximate graph of all rows.
    """
    asks = any(isinstance(metric, NeighbourMetric) for metric in options.metrics)
    if options.estimate == "all" or not asks or (options.estimate.queries or QUERIES_PILOT) >= n:
        return
    if isinstance(options.builder, Approximate):
        raise InvalidRequest(
            "Rows that ask are told their exact neighbours, and an approximate graph has others.",
            value=options.builder.index,
            hint="Leave out `builder`, or use `estimate: all`.",
            pointer="/builder",
        )
    if options.null.method == "permutation":
        raise InvalidRequest(
            "A permutation null needs the neighbours of every row, and only some are to ask.",
            value="permutation",
            hint="Use `null: auto`, which gives the mean where it is known, or `estimate: all`.",
            pointer="/null/method",
        )


def choose_sizes(options: ScoringOptions, n: int) -> tuple[int, ...]:
    """The galleries that are scored, ascending; none where no curve is asked for. `auto`: 1000, 3000, 10000, ... and all rows.

    Raises
    ------
    InvalidRequest
        A gallery of more rows than there are, or of too few for k neighbours.
    """
    ks = [k for metric in options.metrics if isinstance(metric, NeighbourMetric) for k in metric.k]
    if options.gallery_sizes is None or not ks:
        return ()
    if options.gallery_sizes == "auto":
        steps = (size for power in range(3, len(str(n))) for size in (10**power, 3 * 10**power))
        return (*(size for size in steps if max(ks) < size < n), n)
    for index, size in enumerate(options.gallery_sizes):
        if not max(ks) < size <= n:
            raise InvalidRequest(
                f"A gallery of {size} rows cannot be scored with k = {max(ks)} and {n} rows in all.",
                value=size,
                limit=n,
                hint=f"Ask for sizes from {max(ks) + 1} to {n}.",
                pointer=f"/gallery_sizes/{index}",
            )
    return tuple(sorted(set(options.gallery_sizes)))


def plan(options: ScoringOptions, a: SideShape, b: SideShape, limits: CostLimits | None = None) -> Plan:
    """Check a request against its two sides and say what it will cost.

    Raises
    ------
    UnpairedSides, TooFewRows, UnknownLayer, InvalidRequest (k >= n), TooExpensive
    """
    n = count_pairs(options.pairing, a, b)
    check_neighbours(options, n - 1)
    check_subset(options, n)
    choose_sizes(options, n)
    names_a = choose_layers(options.layers.a, [name for name, _ in a.layers], "a")
    names_b = choose_layers(options.layers.b, [name for name, _ in b.layers], "b")
    result = _cost(options, n, a.dims(names_a), b.dims(names_b))
    if limits is not None:
        _check_cost(result, limits)
    return result


def _cost(options: ScoringOptions, n: int, dims_a: list[int], dims_b: list[int]) -> Plan:
    grid = _Grid(n, dims_a, dims_b)
    works = [_work(metric, options, grid) for metric in options.metrics]
    works += [_search(options, grid)]
    rows = FLOAT32_BYTES * n * (sum(dims_a) + sum(dims_b))
    return Plan(
        n=n,
        dim_a=max(dims_a),
        dim_b=max(dims_b),
        cells=grid.cells,
        flops=sum(work.flops for work in works),
        bytes=PROCESS_BYTES + rows + sum(work.bytes for work in works),
        seconds=round(JOB_S + sum(work.flops / work.flops_per_s for work in works), 3),
    )


@dataclass(frozen=True)
class _Grid:
    """Rows, and the columns of each layer that takes part."""

    n: int
    dims_a: list[int]
    dims_b: list[int]

    @property
    def layers(self) -> int:
        return len(self.dims_a) + len(self.dims_b)

    @property
    def cells(self) -> int:
        return len(self.dims_a) * len(self.dims_b)

    @property
    def cross(self) -> float:
        """Entries of all cross-products."""
        return float(sum(self.dims_a) * sum(self.dims_b))


@dataclass(frozen=True)
class _Work:
    flops: float
    bytes: int = 0
    flops_per_s: float = PRODUCT_FLOPS_PER_S


def _search(options: ScoringOptions, grid: _Grid) -> _Work:
    """One search a layer serves every neighbour metric, k and null."""
    k_max = max((max(metric.k) for metric in options.metrics if isinstance(metric, NeighbourMetric)), default=0)
    if k_max == 0:
        return _Work(0.0)
    products = 2.0 * (sum(grid.dims_a) + sum(grid.dims_b))
    inner = [size for size in choose_sizes(options, grid.n) if size < grid.n]
    if (asked := count_queries(options, grid.n)) < grid.n:
        told = asked + _count_second(options, asked, grid.n)
        lists = NEIGHBOUR_BYTES * told * k_max * (1 + len(inner)) * grid.layers
        return _Work(products * told * grid.n, lists, SEARCH_FLOPS_PER_S)
    told = sum(inner[-1:]) + _count_second(options, sum(inner[-1:]), sum(inner[-1:]))
    lists = (
        NEIGHBOUR_BYTES
        * grid.layers
        * (grid.n * min(grid.n, max(LIST_MIN, LIST_FACTOR * k_max)) + told * k_max * len(inner))
    )
    return _Work(products * (grid.n**2 + told * sum(inner[-1:])), lists, SEARCH_FLOPS_PER_S)


def count_queries(options: ScoringOptions, n: int) -> int:
    """How many of n rows ask for their neighbours: as many as the request says, or as a half width is likely to need."""
    choice = options.estimate
    if choice == "all":
        return n
    if choice.half_width is None:
        return min(n, choice.queries or n)
    wanted = max(QUERIES_PILOT, ceil((QUANTILE * ROW_SCORE_SD / choice.half_width) ** 2))
    return n if 2 * wanted >= n else wanted


def _count_second(options: ScoringOptions, asked: int, n: int) -> int:
    """Rows that are searched because others named them: the neighbours' own neighbours, for the metrics that look there."""
    ks = [max(metric.k) for metric in options.metrics if isinstance(metric, NeighbourMetric) and metric.returns]
    return min(n, asked * max(ks, default=0))


def _work(metric: Metric, options: ScoringOptions, grid: _Grid) -> _Work:
    """What one metric costs beyond the search, its null and interval included."""
    n, draws = float(grid.n), _draws(metric, options)
    if isinstance(metric, NeighbourMetric):
        asked = count_queries(options, grid.n)
        draws = draws if asked == grid.n else 0
        steps = float(asked) * max(metric.k) * (sum(metric.k) if metric.k_squared else len(metric.k))
        return _Work(steps * (1 + draws) * (grid.cells if metric.k_squared else grid.layers), 0, STEPS_PER_S)
    if metric.work_kind == "pairs":
        each = n * n * (2.0 * (sum(grid.dims_a) + sum(grid.dims_b)) + PAIR_STEPS * (1 + draws) * grid.cells)
        return _Work(each, int(min(8 * n * n * grid.layers, MATRICES_BYTES)))
    if metric.work_kind == "fit":
        kept = getattr(metric, "components", None) or grid.n
        smaller = min(max(grid.dims_a), max(grid.dims_b), grid.n, kept)
        cross = min(grid.cross, float(kept) ** 2 * grid.cells)
        layers = sum(2 * n * d * d + 10.0 * min(d, grid.n) ** 3 for d in (*grid.dims_a, *grid.dims_b))
        each = cross * (2 * n + FIT_STEPS * smaller)
        return _Work(
            layers * REFITS + each * (1 + draws), 16 * sum(grid.n * min(d, grid.n) for d in grid.dims_a + grid.dims_b)
        )
    gram = n * n * grid.cells if n * n <= 4 * max(grid.dims_a) * max(grid.dims_b) else 2 * n * grid.cross
    return _Work(2 * n * grid.cross * MOMENT_PASSES + gram * draws, int(8 * min(grid.cross, 4 * n * n)))


def _draws(metric: Metric, options: ScoringOptions) -> int:
    """Relabellings that the null takes: none where it has a closed form."""
    method = metric.nulls[0] if options.null.method == "auto" else options.null.method
    return options.null.draws if method == "permutation" else 0


def _check_cost(result: Plan, limits: CostLimits) -> None:
    hint = "Score fewer layers or fewer rows, or ask the operator for a higher limit."
    if result.flops > limits.flops:
        raise TooExpensive(
            f"The job would take {result.flops:.2g} floating-point operations, about {result.seconds:.0f} s.",
            value=result.flops,
            limit=limits.flops,
            hint=hint,
        )
    if result.bytes > limits.bytes:
        raise TooExpensive(
            f"The job would need {result.bytes / 1e9:.1f} GB of memory.",
            value=result.bytes,
            limit=limits.bytes,
            hint=hint,
        )
