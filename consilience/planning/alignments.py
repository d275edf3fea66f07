"""Plans of alignments and extractions: validity and cost, known before a job is queued.

The API calls these functions at POST, and the library before it computes. Only the standard library and the contract are used,
so that the API process stays small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, Self

from consilience.contract.alignments import ScoringOptions
from consilience.contract.base import LayerChoice
from consilience.contract.embeddings import DTYPE_BYTES, EmbeddingSet
from consilience.contract.extraction import Extraction
from consilience.contract.jobs import Plan
from consilience.contract.metric import NeighbourMetric
from consilience.contract.models import ModelKind, parse_model
from consilience.contract.search import QUERIES_PILOT, Approximate, Estimate
from consilience.errors import InvalidRequest, TooExpensive, TooFewRows, UnknownLayer, UnpairedSides
from consilience.limits import ROWS_MIN
from consilience.planning.costs import list_works, sum_works
from consilience.planning.neighbour_costs import ROW_SCORE_SD_MAX, expect_queries
from consilience.planning.work import LayerGrid

_CHEAPER = (
    "Use a sample of query rows (`estimate: {half_width: 0.005}`), fewer layers or rows, fewer permutations or `null: none`; "
    "or ask the operator for a higher limit."
)


@dataclass(frozen=True)
class SideShape:
    """Shape of one side: its rows, and each layer's name, columns and bytes per number."""

    n: int
    layers: tuple[tuple[str, int], ...]
    item_bytes: int = 4
    unique_ids: int | None = None
    """Number of distinct ids; None if the rows have no ids."""
    has_groups: bool = False

    @classmethod
    def of(cls, embeddings: EmbeddingSet) -> Self:
        """Return the shape of a stored set."""
        widest = max(DTYPE_BYTES[layer.dtype] for layer in embeddings.layers)
        return cls(
            n=embeddings.n,
            layers=tuple((layer.name, layer.dim) for layer in embeddings.layers),
            item_bytes=widest,
            unique_ids=embeddings.ids.unique if embeddings.ids else None,
            has_groups=embeddings.groups is not None,
        )

    @property
    def names(self) -> list[str]:
        """Names of the layers, in order."""
        return [name for name, _ in self.layers]

    def dims(self, names: Sequence[str]) -> list[int]:
        """Return the number of columns of the named layers."""
        known = dict(self.layers)
        return [known[name] for name in names]


@dataclass(frozen=True)
class CostLimits:
    """Largest cost of a single job."""

    flops: float = inf
    bytes: int | None = None
    seconds: float = inf


def choose_layers(choice: LayerChoice, names: Sequence[str], side: str) -> tuple[str, ...]:
    """Resolve `last`, `all` or names to names.

    Raises
    ------
    UnknownLayer
        The error lists the existing layers.
    """
    if choice == "last":
        return (names[-1],)
    if choice == "all":
        return tuple(names)
    return tuple(
        dict.fromkeys(_check_layer_name(name, names, side, "`last` and `all` are allowed too") for name in choice)
    )


def choose_layer(choice: str, names: Sequence[str], side: str | None) -> str:
    """Resolve `last` or a name to a name, if a single layer takes part; `side` is None if there is no other side.

    Raises
    ------
    UnknownLayer
        The error lists the existing layers.
    """
    return names[-1] if choice == "last" else _check_layer_name(choice, names, side, "`last` is allowed too")


def _check_layer_name(name: str, names: Sequence[str], side: str | None, alternatives: str) -> str:
    if name not in names:
        owner, pointer = ("The set", "/layer") if side is None else (f"Side {side}", f"/layers/{side}")
        raise UnknownLayer(
            f"{owner} has no layer {name!r}.",
            value=name,
            hint=f"Its layers are {', '.join(names)}; {alternatives}.",
            pointer=pointer,
        )
    return name


def check_pairing(n_a: int, n_b: int, names: tuple[str, str] = ("a", "b")) -> None:
    """Refuse sides that cannot be paired by row; `names` are their names in the request."""
    a, b = names
    if n_a != n_b:
        raise UnpairedSides(
            f"{a} has {n_a} rows and {b} has {n_b}; row i of {a} must be the same item as row i of {b}.",
            value=f"{n_a} and {n_b} rows",
            hint="Embed the same items in the same order with both models.",
            pointer=f"/{b}",
        )
    _check_rows(n_a)


def count_pairs(pairing: Literal["row", "id"], a: SideShape, b: SideShape, names: tuple[str, str] = ("a", "b")) -> int:
    """Return the number of paired rows; an upper bound if paired by id, since ids are not compared here.

    Parameters
    ----------
    names : names of the sides in the request

    Raises
    ------
    UnpairedSides
        Paired by row: the numbers of rows differ. Paired by id: a side without groups repeats an id.
    InvalidRequest
        Paired by id: a side has no ids.
    TooFewRows
    """
    if pairing == "row":
        check_pairing(a.n, b.n, names)
        return a.n
    repeats_a, repeats_b = (_count_repeats(side, name) for side, name in zip((a, b), names, strict=True))
    # A row is paired with each row of its id on the other side, and no id may repeat on both sides.
    if repeats_a and repeats_b:
        n = a.n + b.n
    elif repeats_a or repeats_b:
        n = a.n if repeats_a else b.n
    else:
        n = min(a.n, b.n)
    _check_rows(n)
    return n


def _count_repeats(side: SideShape, name: str) -> int:
    """Return the number of rows of a side with the id of an earlier row."""
    if side.unique_ids is None:
        raise InvalidRequest(
            f"Pairing by id needs ids on both sides, but {name} has none.",
            value="id",
            hint="Upload the side with `ids`, or pair by row.",
            pointer="/pairing",
        )
    repeats = side.n - side.unique_ids
    if repeats and not side.has_groups:
        raise UnpairedSides(
            f"{repeats} of {side.n} rows of {name} have the id of an earlier row.",
            value=f"{side.n} rows, {side.unique_ids} different ids",
            hint="Make ids unique, or give `groups` for rows that belong together, such as several captions of one item.",
            pointer=f"/{name}",
        )
    return repeats


def _check_rows(n: int) -> None:
    if n < ROWS_MIN:
        raise TooFewRows(f"A score needs at least {ROWS_MIN} rows, but there are {n}.", value=n, limit=ROWS_MIN)


def check_neighbours(options: ScoringOptions, neighbours_max: int) -> None:
    """Refuse a k above the number of neighbours: n - 1, or n minus the size of the largest group."""
    for index, metric in enumerate(options.metrics):
        for k in metric.k if isinstance(metric, NeighbourMetric) else ():
            if k > neighbours_max:
                raise InvalidRequest(
                    f"k = {k} is too large: each row has only {neighbours_max} neighbours.",
                    value=k,
                    limit=neighbours_max,
                    hint=f"Use a k of at most {neighbours_max}, or score more rows.",
                    pointer=f"/metrics/{index}/k",
                )


def check_query_sample(options: ScoringOptions, n: int) -> None:
    """Refuse options that a sample of query rows does not allow.

    Raises
    ------
    InvalidRequest
        A permutation null, which needs the neighbours of every row; an approximate graph of all rows.
    """
    has_neighbours = any(isinstance(metric, NeighbourMetric) for metric in options.metrics)
    if options.estimate == "all" or not has_neighbours or (options.estimate.queries or QUERIES_PILOT) >= n:
        return
    if isinstance(options.builder, Approximate):
        raise InvalidRequest(
            "An estimate from query rows uses exact neighbours, but `builder` requests an approximate graph.",
            value=options.builder.index,
            hint="Remove `builder`, or use `estimate: all`.",
            pointer="/builder",
        )
    if options.null.method == "permutation":
        raise InvalidRequest(
            "A permutation null needs the neighbours of every row, but `estimate` samples only some query rows.",
            value="permutation",
            hint="Use `null: auto`, which gives the mean if it is known, or use `estimate: all`.",
            pointer="/null/method",
        )


def choose_gallery_sizes(options: ScoringOptions, n: int) -> tuple[int, ...]:
    """Sizes of the galleries that are scored, ascending; empty without a curve. `auto`: 1000, 3000, 10000, ... and all rows.

    Raises
    ------
    InvalidRequest
        A size above the number of rows, or too small for k neighbours; any size with approximate graphs.
    """
    ks = [k for metric in options.metrics if isinstance(metric, NeighbourMetric) for k in metric.k]
    if options.gallery_sizes is None or not ks:
        return ()
    if isinstance(options.builder, Approximate):
        raise InvalidRequest(
            "Smaller galleries are searched exactly, so their scores are not comparable with that of an approximate graph.",
            value=options.builder.index,
            hint="Remove `builder` or `gallery_sizes`.",
            pointer="/gallery_sizes",
        )
    if options.gallery_sizes == "auto":
        steps = (size for power in range(3, len(str(n))) for size in (10**power, 3 * 10**power))
        return (*(size for size in steps if max(ks) < size < n), n)
    for index, size in enumerate(options.gallery_sizes):
        if not max(ks) < size <= n:
            raise InvalidRequest(
                f"A gallery of {size} rows cannot be scored with k = {max(ks)} and {n} rows in total.",
                value=size,
                limit=n,
                hint=f"Use sizes from {max(ks) + 1} to {n}.",
                pointer=f"/gallery_sizes/{index}",
            )
    return tuple(sorted(set(options.gallery_sizes)))


def plan(options: ScoringOptions, a: SideShape, b: SideShape, limits: CostLimits | None = None) -> Plan:
    """Check a request against its two sides and plan its cost.

    Rows are held in memory if they fit the budget, else read in blocks.

    Raises
    ------
    UnpairedSides, TooFewRows, UnknownLayer
    InvalidRequest
        k >= n, or a memory budget above the limit.
    TooExpensive
        It takes more operations, seconds or bytes than a limit, even if rows are read in blocks.
    """
    n = count_pairs(options.pairing, a, b)
    check_neighbours(options, n - 1)
    check_query_sample(options, n)
    return plan_rows(options, n, a, b, limits or CostLimits())


def plan_rows(options: ScoringOptions, n: int, a: SideShape, b: SideShape, limits: CostLimits) -> Plan:
    """Plan a request for sides with n paired rows.

    Raises
    ------
    UnknownLayer, InvalidRequest, TooExpensive
    """
    budget = choose_budget(options.memory_budget_bytes, limits.bytes)
    result = _choose_plan(options, find_grid(options, n, a, b), budget)
    check_cost(result, limits)
    return result


def find_grid(options: ScoringOptions, n: int, a: SideShape, b: SideShape) -> LayerGrid:
    """Find the layers of both sides that take part, and how their n rows are read.

    Raises
    ------
    UnknownLayer, InvalidRequest
    """
    dims = []
    for side, shape in (("a", a), ("b", b)):
        chosen = shape.dims(choose_layers(getattr(options.layers, side), shape.names, side))
        if options.concat and len(shape.layers) > 1:
            chosen.append(sum(shape.dims(shape.names)))
        dims.append(tuple(chosen))
    by_id = options.pairing == "id"
    return LayerGrid(
        n,
        dims[0],
        dims[1],
        labelled=by_id or a.has_groups or b.has_groups,
        gathered=by_id,
        galleries=tuple(size for size in choose_gallery_sizes(options, n) if size < n),
    )


def choose_budget(requested: int | None, limit: int | None) -> int | None:
    """Choose the memory budget of a job in bytes.

    Raises
    ------
    InvalidRequest
        The request exceeds the limit.
    """
    if requested is None or limit is None:
        return limit if requested is None else requested
    if requested > limit:
        raise InvalidRequest(
            f"The memory budget is {requested / 1e9:.3g} GB, above the limit of {limit / 1e9:.3g} GB.",
            value=requested,
            limit=limit,
            hint="Remove `memory_budget_bytes`, or lower it.",
            pointer="/memory_budget_bytes",
        )
    return requested


def _choose_plan(options: ScoringOptions, grid: LayerGrid, budget: int | None) -> Plan:
    """Plan to hold rows in memory if they fit, else to read them in blocks if that needs less memory."""
    result = _plan_cost(options, grid, budget, streamed=False)
    if budget is not None and result.bytes > budget:
        streamed = _plan_cost(options, grid, budget, streamed=True)
        if streamed.bytes < result.bytes:
            return streamed
    return result


def _plan_cost(options: ScoringOptions, grid: LayerGrid, budget: int | None, *, streamed: bool) -> Plan:
    flops, seconds, peak = sum_works(list_works(options, grid, streamed=streamed))
    queries = queries_max = None
    if isinstance(options.estimate, Estimate) and any(isinstance(m, NeighbourMetric) for m in options.metrics):
        queries = expect_queries(options.estimate, grid.n)
        queries_max = expect_queries(options.estimate, grid.n, ROW_SCORE_SD_MAX)
    return Plan(
        n=grid.n,
        dim_a=max(grid.dims_a),
        dim_b=max(grid.dims_b),
        cells=grid.cells,
        flops=flops,
        bytes=peak,
        memory_budget_bytes=budget,
        streamed=streamed,
        seconds=round(seconds, 3),
        queries=queries,
        queries_max=queries_max,
    )


def check_cost(result: Plan, limits: CostLimits) -> None:
    """Refuse a job that takes more operations, seconds or bytes than a limit.

    Raises
    ------
    TooExpensive
        The error gives the estimated cost.
    """
    if result.flops > limits.flops:
        raise TooExpensive(
            f"The job would take {result.flops:.2g} floating-point operations, about {_format_duration(result.seconds)}.",
            value=result.flops,
            limit=limits.flops,
            hint=_CHEAPER,
        )
    if result.seconds > limits.seconds:
        raise TooExpensive(
            f"The job would take about {_format_duration(result.seconds)}; the limit is {_format_duration(limits.seconds)}.",
            value=result.seconds,
            limit=limits.seconds,
            hint=_CHEAPER,
        )
    budget = result.memory_budget_bytes
    if budget is not None and result.bytes > budget:
        raise TooExpensive(
            f"The job would need {result.bytes / 1e9:.3g} GB of memory, even if its rows are read in blocks; its budget is "
            f"{budget / 1e9:.3g} GB.",
            value=result.bytes,
            limit=budget,
            hint="Use fewer rows or layers, or a metric of the features (cka) instead of one of all pairs of rows (rbf, "
            "distance_correlation, rsa); or raise `memory_budget_bytes` up to the operator's limit.",
        )


def _format_duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("minutes", 60)):
        if seconds >= 10 * size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:.4g} s"


#: Items embedded per second.
RATES: dict[ModelKind, float] = {
    "hf": 60.0,
    "st": 60.0,
    "local": 60.0,
    "timm": 8.0,
    "endpoint": 100.0,
    "baseline": 1500.0,
}
#: Seconds to import the libraries and to load the weights, of a model and of a baseline.
LOADING_S, LOADING_BASELINE_S = 6.0, 1.0
#: Memory of a process that runs a small model, and of one that runs none.
BYTES, BYTES_BASELINE = 1_500_000_000, 400_000_000


def plan_extraction(request: Extraction, n: int) -> Plan:
    """Estimate the cost of embedding n items.

    This is a guess for a small model on two cores, made to tell minutes from hours: only the worker knows the size of a model.
    The progress of the job soon gives a better estimate. No request is refused because of it.
    """
    kind = parse_model(request.model).kind
    light = kind in {"baseline", "endpoint"}
    return Plan(
        n=n,
        flops=0.0,
        bytes=BYTES_BASELINE if light else BYTES,
        seconds=round((LOADING_BASELINE_S if light else LOADING_S) + n / RATES[kind], 1),
    )
