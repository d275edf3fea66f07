"""What a map will cost, and whether it can be had at all: known before anything is queued."""

from collections.abc import Sequence

from consilience.contract.jobs import Plan
from consilience.contract.maps import LowRankMap, MapChoice, MapOptions, MlpMap, RelativeMap
from consilience.contract.pointers import at_pointer
from consilience.contract.upgrades import UpgradeOptions
from consilience.errors import InvalidRequest, InvalidShape, TooFewRows
from consilience.limits import FLOAT32_BYTES, FLOAT64_BYTES, FOLDS, TRANSLATION_ROWS
from consilience.planning.alignments import CostLimits, SideShape, check_cost, choose_layer, count_pairs
from consilience.planning.costs import add_up
from consilience.planning.work import (
    EXACT_FLOPS_PER_S,
    PRODUCT_FLOPS_PER_S,
    SEARCH_FLOPS_PER_S,
    Work,
)

#: Rows that a map and its judgement need together.
ROWS_MIN = 8
#: Cubes of the dimension that one fit costs.
CUBES = 12
#: Bytes of libraries that alignments do not load, and of the blocks of rows that are read ahead.
LIBRARY_BYTES, BLOCK_BYTES = 70_000_000, 300_000_000
#: The share of a processor's products that training by small steps reaches.
TRAINING_SHARE = 0.3


def plan_map(options: MapOptions, a: SideShape, b: SideShape, limits: CostLimits | None = None) -> Plan:
    """Check a wish for a map against its two sides and say what it will cost.

    Raises
    ------
    UnpairedSides, TooFewRows, UnknownLayer
    InvalidRequest
        A rank or anchors that there cannot be.
    TooExpensive
    """
    n = count_pairs(options.pairing, a, b)
    check_rows(n)
    p, q = find_dim(a, options.layers.a, "a"), find_dim(b, options.layers.b, "b")
    check_choice(options.map, n, p, q)
    held = options.test_share * n
    judging = 2.0 * 2 * 2 * min(options.max_queries, held) * held * q + 4.0 * held * p * q
    works = [price_maps([options.map], n, p, q), Work(judging, judging / SEARCH_FLOPS_PER_S, kept=BLOCK_BYTES)]
    return plan_works(works, limits, n=n, dim_a=p, dim_b=q, cells=1)


def plan_works(works: Sequence[Work], limits: CostLimits | None, **shape: int) -> Plan:
    """Say what works on rows that are read by blocks cost together; `shape` are the plan's other fields.

    Raises
    ------
    TooExpensive
    """
    limits = limits or CostLimits()
    flops, seconds, peak = add_up([Work(kept=LIBRARY_BYTES), *works])
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
    """Refuse fewer rows than a map and its judgement need."""
    if n < ROWS_MIN:
        raise TooFewRows(f"There are {n} rows.", value=n, limit=ROWS_MIN, hint="A map needs at least 8 rows.")


def price_maps(choices: Sequence[MapChoice], n: int, p: int, q: int) -> Work:
    """One pass over n rows of p and q columns for all linear maps, and what some kinds take beside it."""
    if not choices:
        return Work()
    linear = 2.0 * n * p * (p + q) + (FOLDS + 2) * CUBES * float(max(p, q)) ** 3
    trained = [_train(choice, n, p, q) for choice in choices]
    return Work(
        flops=linear + sum(work.flops for work in trained),
        seconds=linear / EXACT_FLOPS_PER_S + sum(work.seconds for work in trained),
        kept=FLOAT64_BYTES * (3 * FOLDS * p * (p + q) + 8 * max(p, q) ** 2),
        passing=max(work.passing for work in trained),
    )


def _train(choice: MapChoice, n: int, p: int, q: int) -> Work:
    """Weights with what the optimiser keeps of them; anchors with what is made of them."""
    flops = passing = 0.0
    if isinstance(choice, MlpMap):
        hidden = choice.hidden or q
        flops, passing = 6.0 * n * choice.epochs * hidden * (p + q), 32.0 * hidden * (p + q)
    elif isinstance(choice, RelativeMap):
        flops, passing = float(CUBES * choice.anchors**3), 4.0 * FLOAT64_BYTES * choice.anchors**2
    return Work(flops, flops / (TRAINING_SHARE * PRODUCT_FLOPS_PER_S), passing=passing)


def check_choice(choice: MapChoice, n: int, p: int, q: int, rows: str = "rows") -> None:
    """Refuse a rank, or anchors, that there cannot be for n rows of p and q columns.

    Raises
    ------
    InvalidRequest
        The place is that in a request for a map.
    """
    if isinstance(choice, LowRankMap) and choice.rank > min(p, q):
        raise InvalidRequest(
            f"No map from {p} to {q} dimensions has rank {choice.rank}.",
            value=choice.rank,
            limit=min(p, q),
            hint=f"Ask for a rank of at most {min(p, q)}.",
            pointer="/map/rank",
        )
    if isinstance(choice, RelativeMap) and choice.anchors > n:
        raise InvalidRequest(
            f"There are {n} {rows} for {choice.anchors} anchors.",
            value=choice.anchors,
            limit=n,
            hint="Take fewer anchors, or map more items.",
            pointer="/map/anchors",
        )


def plan_translation(source: SideShape, layer: str, dims: tuple[int, int], limits: CostLimits | None = None) -> Plan:
    """What translating a set by a map from dims[0] to dims[1] dimensions will cost.

    Raises
    ------
    UnknownLayer, TooExpensive
    InvalidRequest
        The layer has another dimension than the map takes.
    """
    p = find_dim(source, layer, None)
    if p != dims[0]:
        raise InvalidRequest(
            f"The layer has {p} dimensions, the map takes {dims[0]}.",
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
    """Columns of the layer of this name, or of the last one.

    Raises
    ------
    UnknownLayer
    """
    (dim,) = shape.dims([choose_layer(layer, shape.names, side)])
    return dim


#: Both models' shapes, the old one first.
Shapes = tuple[SideShape, SideShape]


def plan_upgrade(
    options: UpgradeOptions, documents: Shapes, queries: Shapes | None, limits: CostLimits | None = None
) -> Plan:
    """Check an upgrade request against its sides and say what it will cost.

    Raises
    ------
    UnpairedSides, TooFewRows, UnknownLayer
    InvalidShape
        Queries of other dimensions than their documents.
    InvalidRequest
        A rank, anchors or a k that there cannot be.
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
    asking = min(options.max_queries, n)
    works = [price_maps(options.maps, n, p, q), _search(options, n, asking, (p, q), asked_apart=queries is not None)]
    return plan_works(works, limits, n=n, dim_a=q, dim_b=p, cells=1, queries=asking)


def _search(options: UpgradeOptions, n: int, asking: int, dims: tuple[int, int], *, asked_apart: bool) -> Work:
    """From p columns of the new model to q of the old one: every way asks once."""
    (p, q), maps = dims, len(options.maps)
    flops = 2.0 * n * asking * ((1 + asked_apart) * (p + q) + (maps + (p == q)) * q)
    vectors = FLOAT32_BYTES * asking * (p + q) * (2 + maps)
    lists = 12 * asking * options.k * (4 + maps)
    return Work(flops, flops / PRODUCT_FLOPS_PER_S, kept=BLOCK_BYTES + vectors + lists)


def check_k(k: int, n: int, largest_group: int = 1) -> None:
    """Refuse more neighbours than there are documents of other groups.

    Raises
    ------
    InvalidRequest
    """
    limit = n - largest_group
    if k > limit:
        raise InvalidRequest(
            f"There are at most {limit} neighbours among {n} documents.",
            value=k,
            limit=limit,
            hint="Ask for fewer neighbours, or give more documents.",
            pointer="/k",
        )


def _check_queries(options: UpgradeOptions, queries: Shapes, dims: tuple[int, int]) -> None:
    words = (("old", options.layers.old), ("new", options.layers.new))
    for shape, (model, word), dim in zip(queries, words, dims, strict=True):
        with at_pointer("/queries"):
            found = find_dim(shape, word if len(shape.layers) > 1 else "last", model)
        check_columns(model, dim, found)


def check_columns(model: str, documents: int, queries: int) -> None:
    """Refuse queries that have other columns than the documents of their model.

    Raises
    ------
    InvalidShape
    """
    if documents != queries:
        raise InvalidShape(
            f"The {model} model's queries have {queries} columns, its documents {documents}.",
            value=queries,
            limit=documents,
            hint="Embed queries and documents with the same model.",
            pointer=f"/queries/{model}",
        )
