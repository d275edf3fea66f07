"""What an alignment against a reference set will cost: known before it is queued.

Standard library and contract only.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache

from consilience.contract.jobs import Layers, NullChoice, Plan, ScoringOptions
from consilience.contract.places import prefixed
from consilience.planning.alignments import CostLimits, SideShape, check_cost, plan
from consilience.planning.work import JOB_S


def mutual_options(options: ScoringOptions) -> ScoringOptions:
    """How members are scored against each other: as the model against them, and for their values alone."""
    # Of the request nothing but this: what a model is and whom it tells of its job changes no score of members.
    own = {name: getattr(options, name) for name in ScoringOptions.model_fields}
    values_alone: dict[str, object] = {
        "layers": Layers(a=options.layers.b, b=options.layers.b),
        "null": NullChoice(method="none"),
        "interval": None,
        "gallery_sizes": None,
        "memory_budget_bytes": None,
        "metadata": {},
    }
    return ScoringOptions.model_validate(own | values_alone)


def is_mirrored(options: ScoringOptions) -> bool:
    """Whether one order of two sets says all."""
    sided = options.aggregate in ("row_max_mean", "column_max_mean")
    return not sided and all(metric.is_symmetric for metric in options.metrics)


def plan_reference(
    options: ScoringOptions, a: SideShape, members: Sequence[SideShape], limits: CostLimits | None = None
) -> Plan:
    """Check a request against the model and every member, and say what it will cost at most.

    At most, because the members' scores against each other are found once, and because a layer's graph serves all pairs.

    Returns
    -------
    Plan
        `cells` are the layer pairs of all comparisons, those of members among themselves included.

    Raises
    ------
    InputError
        What an alignment with one of the members would be refused for; the sentence says which.
    TooExpensive
        All together take more operations or seconds than a limit.
    """
    limits = limits or CostLimits()
    memory = CostLimits(bytes=limits.bytes)
    price = cache(lambda member: plan(options, a, member, memory))
    plans = []
    for place, member in enumerate(members):
        with prefixed(f"Against member {place}"):
            plans.append(price(member))
    pairs = _price_pairs(mutual_options(options), members, memory, times=1 if is_mirrored(options) else 2)
    everything = [*plans, *pairs]
    largest = max(everything, key=lambda found: found.bytes)
    total = plans[0].model_copy(
        update={
            "dim_b": max(found.dim_b or 0 for found in plans),
            "cells": sum(found.cells or 0 for found in everything),
            "flops": sum(found.flops for found in everything),
            "seconds": round(JOB_S + sum(max(0.0, found.seconds - JOB_S) for found in everything), 3),
            "bytes": largest.bytes,
            "streamed": any(found.streamed for found in everything),
        }
    )
    check_cost(total, limits)
    return total


def _price_pairs(
    options: ScoringOptions, members: Sequence[SideShape], limits: CostLimits, *, times: int
) -> list[Plan]:
    """The plan of every pair of members; members of one shape cost the same."""
    counts = Counter(members)
    found: list[Plan] = []
    for i, (first, of_first) in enumerate(counts.items()):
        for second, of_second in list(counts.items())[i:]:
            number = of_first * (of_first - 1) // 2 if first == second else of_first * of_second
            if number:
                found += [plan(options, first, second, limits)] * (number * times)
    return found
