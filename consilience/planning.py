"""What a request will cost, and whether it can be answered at all: known before anything is queued.

The API refuses at POST with what stands here; the library asks the same questions before it computes. Standard library and
contract only, so that the API process stays small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from consilience.contract.embeddings import DTYPE_BYTES, ROWS_MIN, EmbeddingSet
from consilience.contract.jobs import LayerChoice, Plan, ScoringOptions
from consilience.contract.metrics import Cka, MutualKnn
from consilience.errors import InvalidRequest, TooExpensive, TooFewRows, UnknownLayer, UnpairedSides

#: Multiply-adds a second of a flat float32 search on two cores, and of a float64 product; measured on a 2-core Xeon.
SEARCH_FLOPS_PER_S = 1.0e11
PRODUCT_FLOPS_PER_S = 5.0e10
#: Seconds that a job costs whatever its size.
JOB_S = 0.05
#: Bytes of a job's process before it holds any rows.
PROCESS_BYTES = 200_000_000
#: An id and a similarity.
NEIGHBOUR_BYTES = 8
#: Neighbours kept per row for each one asked for, because the interval needs them.
LIST_FACTOR = 5
LIST_MIN = 48


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


def check_neighbours(options: ScoringOptions, n: int) -> None:
    """Refuse a k that is not below n."""
    for index, metric in enumerate(options.metrics):
        for k in metric.k if isinstance(metric, MutualKnn) else ():
            if k >= n:
                raise InvalidRequest(
                    f"k = {k} is not below n = {n}: a row has only {n - 1} neighbours.",
                    value=k,
                    limit=n - 1,
                    hint=f"Ask for k of at most {n - 1}, or score more rows.",
                    pointer=f"/metrics/{index}/k",
                )


def plan(options: ScoringOptions, a: SideShape, b: SideShape, limits: CostLimits | None = None) -> Plan:
    """Check a request against its two sides and say what it will cost.

    Raises
    ------
    UnpairedSides, TooFewRows, UnknownLayer, InvalidRequest (k >= n), TooExpensive
    """
    n = count_pairs(options.pairing, a, b)
    check_neighbours(options, n)
    names_a = choose_layers(options.layers.a, [name for name, _ in a.layers], "a")
    names_b = choose_layers(options.layers.b, [name for name, _ in b.layers], "b")
    result = _cost(options, n, a.dims(names_a), b.dims(names_b))
    if limits is not None:
        _check_cost(result, limits)
    return result


def _cost(options: ScoringOptions, n: int, dims_a: list[int], dims_b: list[int]) -> Plan:
    k_max = max((max(m.k) for m in options.metrics if isinstance(m, MutualKnn)), default=0)
    searches = 2.0 * n * n * (sum(dims_a) + sum(dims_b)) if k_max else 0.0
    products = 2.0 * n * sum(dims_a) * sum(dims_b) * sum(isinstance(m, Cka) for m in options.metrics)
    products *= 1 + (options.null.draws if options.null.method == "permutation" else 3)
    lists = min(n, max(LIST_MIN, LIST_FACTOR * k_max)) if k_max else 0
    rows = 4 * n * (sum(dims_a) + sum(dims_b))
    graphs = NEIGHBOUR_BYTES * n * lists * (len(dims_a) + len(dims_b))
    squares = 8 * sum(d * d for d in dims_a + dims_b)
    return Plan(
        n=n,
        dim_a=max(dims_a),
        dim_b=max(dims_b),
        cells=len(dims_a) * len(dims_b),
        flops=searches + products,
        bytes=PROCESS_BYTES + rows + graphs + squares,
        seconds=round(JOB_S + searches / SEARCH_FLOPS_PER_S + products / PRODUCT_FLOPS_PER_S, 3),
    )


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
