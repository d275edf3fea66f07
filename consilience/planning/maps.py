"""Plans of maps, translations and upgrade reports: validity and cost, known before a job is queued."""

from collections.abc import Sequence

from consilience.contract.jobs import Plan
from consilience.contract.maps import LowRankMap, MapChoice, MapOptions, MlpMap, RelativeMap
from consilience.contract.pointers import at_pointer
from consilience.contract.upgrades import UpgradeOptions
from consilience.errors import InvalidRequest, InvalidShape, TooFewRows
from consilience.limits import FLOAT32_BYTES, FLOAT64_BYTES, FOLDS, TRANSLATION_ROWS
from consilience.planning.alignments import CostLimits, SideShape, check_cost, choose_layer, count_pairs
from consilience.planning.costs import sum_works
from consilience.planning.work import (
    EXACT_FLOPS_PER_S,
    PRODUCT_FLOPS_PER_S,
    SEARCH_FLOPS_PER_S,
    Work,
)

#: Smallest number of rows for a map and its evaluation together.
ROWS_MIN = 8
#: Cubes of the dimension that one fit costs.
CUBES = 12
#: Bytes of libraries that alignments do not load, and of prefetched blocks of rows.
LIBRARY_BYTES, BLOCK_BYTES = 70_000_000, 300_000_000
#: Share of a processor's speed of products that training in small steps reaches.
TRAINING_SHARE = 0.3


def plan_map(options: MapOptions, a: SideShape, b: SideShape, limits: CostLimits | None = None) -> Plan:
    """Check the options of a map against its two sides and plan its cost.

    Raises
    ------
    UnpairedSides, TooFewRows, UnknownLayer
    InvalidRequest
        An impossible rank or number of anchors.
    TooExpensive
    """
    n = count_pairs(options.pairing, a, b)
    check_rows(n)
    p, q = find_dim(a, options.layers.a, "a"), find_dim(b, options.layers.b, "b")
    check_choice(options.map, n, p, q)
    held_out = options.test_share * n
    evaluation = 2.0 * 2 * 2 * min(options.max_queries, held_out) * held_out * q + 4.0 * held_out * p * q
    works = [cost_maps([options.map], n, p, q), Work(evaluation, evaluation / SEARCH_FLOPS_PER_S, kept=BLOCK_BYTES)]
    return plan_works(works, limits, n=n, dim_a=p, dim_b=q, cells=1)


def plan_works(works: Sequence[Work], limits: CostLimits | None, **shape: int) -> Plan:
    """Plan the total cost of work on rows that are read in blocks; `shape` are the other fields of the plan.

    Raises
    ------
    TooExpensive
    """
    limits = limits or CostLimits()
    flops, seconds, peak = sum_works([Work(kept=LIBRARY_BYTES), *works])
    plan = Plan(
        flops=flops,
        bytes=peak,
        memory_budget_bytes=limits.bytes,
        streamed=True,
        seconds=round(seconds, 3),
        **shape,
    )
    check_cost(plan, limits)
    return plan


def check_rows(n: int) -> None:
    """Refuse fewer rows than a map and its evaluation need."""
    if n < ROWS_MIN:
        raise TooFewRows(f"A map needs at least {ROWS_MIN} rows, but there are {n}.", value=n, limit=ROWS_MIN)


def cost_maps(choices: Sequence[MapChoice], n: int, p: int, q: int) -> Work:
    """Cost of one pass over n rows of p and q columns for all linear maps, and of the training of some kinds."""
    if not choices:
        return Work()
    linear = 2.0 * n * p * (p + q) + (FOLDS + 2) * CUBES * float(max(p, q)) ** 3
    trained = [_cost_training(choice, n, p, q) for choice in choices]
    return Work(
        flops=linear + sum(work.flops for work in trained),
        seconds=linear / EXACT_FLOPS_PER_S + sum(work.seconds for work in trained),
        kept=FLOAT64_BYTES * (3 * FOLDS * p * (p + q) + 8 * max(p, q) ** 2),
        passing=max(work.passing for work in trained),
    )


def _cost_training(choice: MapChoice, n: int, p: int, q: int) -> Work:
    """Cost of weights with the state of the optimiser, or of anchors with their products."""
    flops = passing = 0.0
    if isinstance(choice, MlpMap):
        hidden = choice.hidden or q
        flops, passing = 6.0 * n * choice.epochs * hidden * (p + q), 32.0 * hidden * (p + q)
    elif isinstance(choice, RelativeMap):
        flops, passing = float(CUBES * choice.anchors**3), 4.0 * FLOAT64_BYTES * choice.anchors**2
    return Work(flops, flops / (TRAINING_SHARE * PRODUCT_FLOPS_PER_S), passing=passing)


def check_choice(choice: MapChoice, n: int, p: int, q: int, rows: str = "rows") -> None:
    """Refuse a rank or a number of anchors that is impossible for n rows of p and q columns.

    Raises
    ------
    InvalidRequest
        Its pointer is that in a request for a map.
    """
    if isinstance(choice, LowRankMap) and choice.rank > min(p, q):
        raise InvalidRequest(
            f"Rank {choice.rank} is too large for a map from {p} to {q} dimensions.",
            value=choice.rank,
            limit=min(p, q),
            hint=f"Use a rank of at most {min(p, q)}.",
            pointer="/map/rank",
        )
    if isinstance(choice, RelativeMap) and choice.anchors > n:
        raise InvalidRequest(
            f"The map needs {choice.anchors} anchors, but there are only {n} {rows}.",
            value=choice.anchors,
            limit=n,
            hint="Use fewer anchors, or give more items.",
            pointer="/map/anchors",
        )


def plan_translation(source: SideShape, layer: str, dims: tuple[int, int], limits: CostLimits | None = None) -> Plan:
    """Plan the cost of translating a set by a map from dims[0] to dims[1] dimensions.

    Raises
    ------
    UnknownLayer, TooExpensive
    InvalidRequest
        The layer does not have the map's number of input dimensions.
    """
    p = find_dim(source, layer, None)
    if p != dims[0]:
        raise InvalidRequest(
            f"The layer has {p} dimensions, but the map takes {dims[0]}.",
            value=p,
            limit=dims[0],
            hint="Translate a set of the model that the map was fitted on.",
            pointer="/embedding",
        )
    flops = 2.0 * source.n * dims[0] * dims[1]
    held = FLOAT32_BYTES * (dims[0] * dims[1] + 3 * TRANSLATION_ROWS * sum(dims))
    works = [Work(flops, flops / PRODUCT_FLOPS_PER_S, kept=held)]
    return plan_works(works, limits, n=source.n, dim_a=dims[0], dim_b=dims[1])


def find_dim(shape: SideShape, layer: str, side: str | None) -> int:
    """Return the number of columns of the layer of this name, or of the last one.

    Raises
    ------
    UnknownLayer
    """
    (dim,) = shape.dims([choose_layer(layer, shape.names, side)])
    return dim


#: Shapes of the old and the new model.
Shapes = tuple[SideShape, SideShape]


def plan_upgrade(
    options: UpgradeOptions, documents: Shapes, queries: Shapes | None, limits: CostLimits | None = None
) -> Plan:
    """Check an upgrade request against its sides and plan its cost.

    Raises
    ------
    UnpairedSides, TooFewRows, UnknownLayer
    InvalidShape
        Queries do not have the dimensions of their documents.
    InvalidRequest
        An impossible rank, number of anchors or k.
    TooExpensive
    """
    old, new = documents
    n = count_pairs(options.pairing, old, new, ("old", "new"))
    check_rows(n)
    q, p = find_dim(old, options.layers.old, "old"), find_dim(new, options.layers.new, "new")
    check_k(options.k, n)
    if queries is not None:
        count_pairs(options.pairing, *queries, ("queries/old", "queries/new"))
        _check_queries(options, queries, (q, p))
    for number, choice in enumerate(options.maps):
        with at_pointer(f"/maps/{number}", instead="/map"):
            check_choice(choice, n, p, q)
    sampled = min(options.max_queries, n)
    works = [cost_maps(options.maps, n, p, q), _search(options, n, sampled, (p, q), has_queries=queries is not None)]
    return plan_works(works, limits, n=n, dim_a=q, dim_b=p, cells=1, queries=sampled)


def _search(options: UpgradeOptions, n: int, sampled: int, dims: tuple[int, int], *, has_queries: bool) -> Work:
    """Cost of the searches from p columns of the new model and q of the old one: each strategy searches once."""
    (p, q), maps = dims, len(options.maps)
    flops = 2.0 * n * sampled * ((1 + has_queries) * (p + q) + (maps + (p == q)) * q)
    vectors = FLOAT32_BYTES * sampled * (p + q) * (2 + maps)
    lists = 12 * sampled * options.k * (4 + maps)
    return Work(flops, flops / PRODUCT_FLOPS_PER_S, kept=BLOCK_BYTES + vectors + lists)


def check_k(k: int, n: int, largest_group: int = 1) -> None:
    """Refuse a k above the number of documents of other groups.

    Raises
    ------
    InvalidRequest
    """
    limit = n - largest_group
    if k > limit:
        raise InvalidRequest(
            f"k = {k} is too large: {n} documents have at most {limit} neighbours.",
            value=k,
            limit=limit,
            hint=f"Use a k of at most {limit}, or give more documents.",
            pointer="/k",
        )


def _check_queries(options: UpgradeOptions, queries: Shapes, dims: tuple[int, int]) -> None:
    words = (("old", options.layers.old), ("new", options.layers.new))
    for shape, (model, word), dim in zip(queries, words, dims, strict=True):
        with at_pointer("/queries"):
            found = find_dim(shape, word if len(shape.layers) > 1 else "last", model)
        check_columns(model, dim, found)


def check_columns(model: str, documents: int, queries: int) -> None:
    """Refuse queries that do not have as many columns as the documents of their model.

    Raises
    ------
    InvalidShape
    """
    if documents != queries:
        raise InvalidShape(
            f"The {model} model's queries have {queries} columns, but its documents have {documents}.",
            value=queries,
            limit=documents,
            hint="Embed queries and documents with the same model.",
            pointer=f"/queries/{model}",
        )
