"""What an upgrade report will cost, and whether it can be had at all: known before anything is queued."""

from collections.abc import Iterator
from contextlib import contextmanager

from consilience.contract.jobs import Plan
from consilience.contract.maps import MapOptions
from consilience.contract.upgrades import UpgradeOptions
from consilience.costs import EXACT_FLOPS_PER_S, PRODUCT_FLOPS_PER_S
from consilience.errors import ConsilienceError, InvalidRequest, InvalidShape
from consilience.map_planning import (
    BLOCK_BYTES,
    CUBES,
    FLOAT64_BYTES,
    FOLDS,
    PROCESS_BYTES,
    TRAINING_SHARE,
    check_choice,
    check_rows,
    find_dim,
    find_training,
)
from consilience.planning import CostLimits, SideShape, check_cost, count_pairs

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
    n = count_pairs(options.pairing, old, new)
    check_rows(n)
    q, p = find_dim(old, options.layers.old, "old"), find_dim(new, options.layers.new, "new")
    if options.k > n - 1:
        raise InvalidRequest(
            f"There are at most {n - 1} neighbours among {n} documents.",
            value=options.k,
            limit=n - 1,
            hint="Ask for fewer neighbours, or give more documents.",
            pointer="/k",
        )
    if queries is not None:
        with _about("/queries"):
            count_pairs(options.pairing, *queries)
        _check_queries(options, queries, (q, p))
    return _price(options, n, p, q, asked_apart=queries is not None, limits=limits or CostLimits())


def _price(options: UpgradeOptions, n: int, p: int, q: int, *, asked_apart: bool, limits: CostLimits) -> Plan:
    """From p columns of the new model to q of the old one."""
    sums = 2.0 * n * p * (p + q) if options.maps else 0.0
    solving = float((FOLDS + 2) * CUBES * max(p, q) ** 3) if options.maps else 0.0
    training, weights = 0.0, 0
    for number, choice in enumerate(options.maps):
        fit = MapOptions(map=choice, test_share=options.test_share)
        with _about(f"/maps/{number}", instead="/map"):
            check_choice(fit, n, p, q)
        flops, held = find_training(fit, n, p, q)
        training, weights = training + flops, max(weights, held)
    asking = min(options.sample, n)
    searching = 2.0 * n * asking * ((1 + asked_apart) * (p + q) + (len(options.maps) + (p == q)) * q)
    lists = 12 * asking * options.k * (4 + len(options.maps))
    plan = Plan(
        n=n,
        dim_a=q,
        dim_b=p,
        cells=1,
        flops=sums + solving + training + searching,
        bytes=PROCESS_BYTES
        + BLOCK_BYTES
        + FLOAT64_BYTES * (3 * FOLDS * p * (p + q) + 8 * max(p, q) ** 2)
        + weights
        + 4 * asking * (p + q) * (2 + len(options.maps))
        + lists,
        memory_budget_bytes=limits.bytes,
        streamed=True,
        seconds=(sums + solving) / EXACT_FLOPS_PER_S
        + searching / PRODUCT_FLOPS_PER_S
        + training / (TRAINING_SHARE * PRODUCT_FLOPS_PER_S),
        queries=asking,
    )
    check_cost(plan, limits)
    return plan


def _check_queries(options: UpgradeOptions, queries: Shapes, dims: tuple[int, int]) -> None:
    words = (("old", options.layers.old), ("new", options.layers.new))
    for shape, (model, word), dim in zip(queries, words, dims, strict=True):
        with _about("/queries"):
            found = find_dim(shape, word if len(shape.layers) > 1 else "last", model)
        if found != dim:
            raise InvalidShape(
                f"The {model} model's queries have {found} columns, its documents {dim}.",
                value=found,
                limit=dim,
                hint="Embed queries and documents with the same model.",
                pointer=f"/queries/{model}",
            )


@contextmanager
def _about(place: str, *, instead: str = "") -> Iterator[None]:
    """Errors of the block are about this place in the request."""
    try:
        yield
    except ConsilienceError as error:
        error.pointer = place + (error.pointer or "").removeprefix(instead)
        raise
