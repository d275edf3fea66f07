"""What an upgrade report will cost, and whether it can be had at all: known before anything is queued."""

from consilience.contract.jobs import Plan
from consilience.contract.places import placed
from consilience.contract.upgrades import UpgradeOptions
from consilience.errors import InvalidRequest, InvalidShape
from consilience.planning.alignments import CostLimits, SideShape, count_pairs
from consilience.planning.maps import BLOCK_BYTES, check_choice, check_rows, find_dim, plan_works, price_maps
from consilience.planning.work import FLOAT32_BYTES, PRODUCT_FLOPS_PER_S, Work

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
        with placed(f"/maps/{number}", instead="/map"):
            check_choice(choice, n, p, q)
    asking = min(options.sample, n)
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
        with placed("/queries"):
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
