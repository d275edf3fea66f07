"""What a map will cost, and whether it can be had at all: known before anything is queued."""

from consilience.contract.jobs import Plan
from consilience.contract.maps import LowRank, MapOptions, Mlp, Relative
from consilience.costs import EXACT_FLOPS_PER_S, PRODUCT_FLOPS_PER_S, SEARCH_FLOPS_PER_S
from consilience.errors import InvalidRequest, TooFewRows, UnknownLayer
from consilience.planning import CostLimits, SideShape, check_cost, count_pairs

#: Rows that a map and its judgement need together.
ROWS_MIN = 8
#: Folds that cross-validation fits without, and the cubes that each fit costs.
FOLDS, CUBES = 5, 12
#: Bytes of the process, and of the blocks of rows that are read ahead.
PROCESS_BYTES, BLOCK_BYTES = 350_000_000, 300_000_000
FLOAT64_BYTES = 8
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
    check_choice(options, n, p, q)
    sums = 2.0 * n * p * (p + q)
    solving = float((FOLDS + 2) * CUBES * max(p, q) ** 3)
    held = options.test_share * n
    judging = 2.0 * 2 * 2 * min(options.queries, held) * held * q + 4.0 * held * p * q
    training, weights = find_training(options, n, p, q)
    plan = Plan(
        n=n,
        dim_a=p,
        dim_b=q,
        cells=1,
        flops=sums + solving + judging + training,
        bytes=PROCESS_BYTES + BLOCK_BYTES + FLOAT64_BYTES * (3 * FOLDS * p * (p + q) + 8 * max(p, q) ** 2) + weights,
        memory_budget_bytes=limits.bytes if limits else None,
        streamed=True,
        seconds=(sums + solving) / EXACT_FLOPS_PER_S
        + judging / SEARCH_FLOPS_PER_S
        + training / (TRAINING_SHARE * PRODUCT_FLOPS_PER_S),
    )
    check_cost(plan, limits or CostLimits())
    return plan


def check_rows(n: int) -> None:
    """Refuse fewer rows than a map and its judgement need."""
    if n < ROWS_MIN:
        raise TooFewRows(f"There are {n} rows.", value=n, limit=ROWS_MIN, hint="A map needs at least 8 rows.")


def find_training(options: MapOptions, n: int, p: int, q: int) -> tuple[float, int]:
    """Operations of training, and bytes of weights with what the optimiser keeps of them; of anchors, likewise."""
    choice = options.map
    if isinstance(choice, Mlp):
        hidden = choice.hidden or q
        return 6.0 * n * choice.epochs * hidden * (p + q), 32 * hidden * (p + q)
    if isinstance(choice, Relative):
        return float(CUBES * choice.anchors**3), 4 * FLOAT64_BYTES * choice.anchors**2
    return 0.0, 0


def check_choice(options: MapOptions, n: int, p: int, q: int) -> None:
    """Refuse a rank, or anchors, that there cannot be for n rows of p and q columns."""
    choice = options.map
    if isinstance(choice, LowRank) and choice.rank > min(p, q):
        raise InvalidRequest(
            f"No map from {p} to {q} dimensions has rank {choice.rank}.",
            value=choice.rank,
            limit=min(p, q),
            hint=f"Ask for a rank of at most {min(p, q)}.",
            pointer="/map/rank",
        )
    if isinstance(choice, Relative) and choice.anchors > n:
        raise InvalidRequest(
            f"There are {n} rows for {choice.anchors} anchors.",
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
    p = find_dim(source, layer, "a", "/layer")
    if p != dims[0]:
        raise InvalidRequest(
            f"The layer has {p} dimensions, the map takes {dims[0]}.",
            value=p,
            limit=dims[0],
            hint="Translate a set of the model that the map was fitted on.",
            pointer="/embedding",
        )
    flops = 2.0 * source.n * dims[0] * dims[1]
    plan = Plan(
        n=source.n,
        dim_a=dims[0],
        dim_b=dims[1],
        flops=flops,
        bytes=PROCESS_BYTES + 4 * (dims[0] * dims[1] + 3 * 8192 * sum(dims)),
        streamed=True,
        seconds=flops / PRODUCT_FLOPS_PER_S,
    )
    check_cost(plan, limits or CostLimits())
    return plan


def find_dim(shape: SideShape, layer: str, side: str, pointer: str | None = None) -> int:
    """Columns of the layer of this name, or of the last one.

    Raises
    ------
    UnknownLayer
    """
    known = dict(shape.layers)
    name = shape.layers[-1][0] if layer == "last" else layer
    if name not in known:
        raise UnknownLayer(
            f"Side {side} has no layer {layer!r}.",
            value=layer,
            hint=f"Its layers are {', '.join(known)}; `last` works too.",
            pointer=pointer or f"/layers/{side}",
        )
    return known[name]
