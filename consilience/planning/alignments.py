"""What a request will cost, and whether it can be answered at all: known before anything is queued.

The API refuses at POST with what stands here; the library asks the same questions before it computes. Standard library and
contract only, so that the API process stays small.
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
from consilience.planning.costs import add_up, find_works
from consilience.planning.neighbour_costs import ROW_SCORE_SD_MAX, expect_queries
from consilience.planning.work import Grid

_CHEAPER = (
    "Let some rows ask (`estimate: {half_width: 0.005}`), score fewer layers or rows, ask for fewer draws or for "
    "`null: none`; or ask the operator for a higher limit."
)


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

    @property
    def names(self) -> list[str]:
        """The layers in their order."""
        return [name for name, _ in self.layers]

    def dims(self, names: Sequence[str]) -> list[int]:
        """Columns of the named layers."""
        known = dict(self.layers)
        return [known[name] for name in names]


@dataclass(frozen=True)
class CostLimits:
    """What a single job may cost at most."""

    flops: float = inf
    bytes: int | None = None
    seconds: float = inf


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
    return tuple(dict.fromkeys(_know(name, names, side, "`last` and `all` work too") for name in choice))


def choose_layer(choice: str, names: Sequence[str], side: str | None) -> str:
    """Turn `last` or a name into a name, where one layer takes part; `side` is None where there is no other one.

    Raises
    ------
    UnknownLayer
        With the layers that there are.
    """
    return names[-1] if choice == "last" else _know(choice, names, side, "`last` works too")


def _know(name: str, names: Sequence[str], side: str | None, words: str) -> str:
    if name not in names:
        whose, pointer = ("The set", "/layer") if side is None else (f"Side {side}", f"/layers/{side}")
        raise UnknownLayer(
            f"{whose} has no layer {name!r}.",
            value=name,
            hint=f"Its layers are {', '.join(names)}; {words}.",
            pointer=pointer,
        )
    return name


def check_pairing(n_a: int, n_b: int, names: tuple[str, str] = ("a", "b")) -> None:
    """Refuse sides that cannot be paired by row; `names` are what the request calls them."""
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
    """How many rows the paired sides have: exactly, by row; at most, by id, since ids are not compared here.

    Parameters
    ----------
    names : what the request calls the sides

    Raises
    ------
    UnpairedSides
        By row: different numbers of rows. By id: an id comes twice on a side without groups.
    InvalidRequest
        By id: a side has no ids.
    TooFewRows
    """
    if pairing == "row":
        check_pairing(a.n, b.n, names)
        return a.n
    repeats_a, repeats_b = (_count_repeats(side, name) for side, name in zip((a, b), names, strict=True))
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
        A gallery of more rows than there are, or of too few for k neighbours; any beside approximate graphs.
    """
    ks = [k for metric in options.metrics if isinstance(metric, NeighbourMetric) for k in metric.k]
    if options.gallery_sizes is None or not ks:
        return ()
    if isinstance(options.builder, Approximate):
        raise InvalidRequest(
            "Smaller galleries are searched exactly, and their scores do not compare with that of an approximate graph.",
            value=options.builder.index,
            hint="Leave out `builder`, or `gallery_sizes`.",
            pointer="/gallery_sizes",
        )
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

    Rows are held in memory where that fits the budget, and read by blocks else.

    Raises
    ------
    UnpairedSides, TooFewRows, UnknownLayer
    InvalidRequest
        k >= n, or a memory budget above the limit.
    TooExpensive
        It takes more operations, seconds or bytes than a limit, read by blocks or not.
    """
    n = count_pairs(options.pairing, a, b)
    check_neighbours(options, n - 1)
    check_subset(options, n)
    return plan_rows(options, n, a, b, limits or CostLimits())


def plan_rows(options: ScoringOptions, n: int, a: SideShape, b: SideShape, limits: CostLimits) -> Plan:
    """Plan the same for sides of which n rows are paired.

    Raises
    ------
    UnknownLayer, InvalidRequest, TooExpensive
    """
    budget = choose_budget(options.memory_budget_bytes, limits.bytes)
    result = _choose_way(options, find_grid(options, n, a, b), budget)
    check_cost(result, limits)
    return result


def find_grid(options: ScoringOptions, n: int, a: SideShape, b: SideShape) -> Grid:
    """The layers of both sides that take part, and how their n rows are read; UnknownLayer, InvalidRequest as in `plan`."""
    dims = []
    for side, shape in (("a", a), ("b", b)):
        chosen = shape.dims(choose_layers(getattr(options.layers, side), shape.names, side))
        if options.concat and len(shape.layers) > 1:
            chosen.append(sum(shape.dims(shape.names)))
        dims.append(tuple(chosen))
    by_id = options.pairing == "id"
    return Grid(
        n,
        dims[0],
        dims[1],
        labelled=by_id or a.has_groups or b.has_groups,
        gathered=by_id,
        galleries=tuple(size for size in choose_sizes(options, n) if size < n),
    )


def choose_budget(asked: int | None, limit: int | None) -> int | None:
    """Bytes that a job plans with; InvalidRequest where more are asked for than the limit."""
    if asked is None or limit is None:
        return limit if asked is None else asked
    if asked > limit:
        raise InvalidRequest(
            f"A job may plan with {limit / 1e9:.3g} GB of memory at most.",
            value=asked,
            limit=limit,
            hint="Leave `memory_budget_bytes` out, or ask for less.",
            pointer="/memory_budget_bytes",
        )
    return asked


def _choose_way(options: ScoringOptions, grid: Grid, budget: int | None) -> Plan:
    """In memory where that fits, else by blocks; a job of small layers holds its rows either way."""
    result = _cost(options, grid, budget, streamed=False)
    if budget is not None and result.bytes > budget:
        leaner = _cost(options, grid, budget, streamed=True)
        if leaner.bytes < result.bytes:
            return leaner
    return result


def _cost(options: ScoringOptions, grid: Grid, budget: int | None, *, streamed: bool) -> Plan:
    flops, seconds, peak = add_up(find_works(options, grid, streamed=streamed))
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
    """Refuse what takes more operations, seconds or bytes than a limit; TooExpensive says how much it would take."""
    if result.flops > limits.flops:
        raise TooExpensive(
            f"The job would take {result.flops:.2g} floating-point operations, about {_minutes(result.seconds)}.",
            value=result.flops,
            limit=limits.flops,
            hint=_CHEAPER,
        )
    if result.seconds > limits.seconds:
        raise TooExpensive(
            f"The job would take about {_minutes(result.seconds)}, and may take {_minutes(limits.seconds)}.",
            value=result.seconds,
            limit=limits.seconds,
            hint=_CHEAPER,
        )
    budget = result.memory_budget_bytes
    if budget is not None and result.bytes > budget:
        raise TooExpensive(
            f"The job would need {result.bytes / 1e9:.3g} GB of memory, even with its rows read by blocks; its budget is "
            f"{budget / 1e9:.3g} GB.",
            value=result.bytes,
            limit=budget,
            hint="Score fewer rows or layers, or metrics of the features (cka) instead of all pairs of rows (rbf, "
            "distance_correlation, rsa); or raise `memory_budget_bytes` up to the operator's limit.",
        )


def _minutes(seconds: float) -> str:
    for unit, size in (("h", 3600), ("minutes", 60)):
        if seconds >= 10 * size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:.4g} s"


#: Items a second.
RATES: dict[ModelKind, float] = {
    "hf": 60.0,
    "st": 60.0,
    "local": 60.0,
    "timm": 8.0,
    "endpoint": 100.0,
    "baseline": 1500.0,
}
#: Importing the libraries and loading the weights.
LOADING_S, LOADING_BASELINE_S = 6.0, 1.0
#: Of a process that runs a small model, and of one that runs none.
BYTES, BYTES_BASELINE = 1_500_000_000, 400_000_000


def plan_extraction(request: Extraction, n: int) -> Plan:
    """Guess what embedding n items costs."""
    kind = parse_model(request.model).kind
    light = kind in {"baseline", "endpoint"}
    return Plan(
        n=n,
        flops=0.0,
        bytes=BYTES_BASELINE if light else BYTES,
        seconds=round((LOADING_BASELINE_S if light else LOADING_S) + n / RATES[kind], 1),
    )
