"""Plans of studies and of alignments against a reference set: validity and cost, known before a job is queued.

Only the standard library and the contract are used, as in all of planning: the API calls these functions at POST, and the
library before it computes.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite
from typing import Literal

from consilience.contract.alignments import Layers, NullChoice, ScoringOptions
from consilience.contract.base import Metadata
from consilience.contract.jobs import Plan
from consilience.contract.pointers import with_prefix
from consilience.contract.studies import BUILT_IN, Factor, Member, StudyOptions, StudySide, order_cells
from consilience.contract.study_results import CellScore, StudyCell, StudyDocument, StudyMatrix, StudyMember
from consilience.errors import ConsilienceError, InvalidRequest, TooLarge
from consilience.planning.alignments import CostLimits, SideShape, check_cost, choose_layers, find_grid, plan
from consilience.planning.costs import list_works
from consilience.planning.work import JOB_S, Work


def mutual_options(options: ScoringOptions) -> ScoringOptions:
    """Options for scores of members against each other: those of the model against them, without null and interval."""
    # Only these fields of the request: the model and the webhook of a job change no score of members.
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
    """Return True if swapping two sets changes no score."""
    sided = options.aggregate in ("row_max_mean", "column_max_mean")
    return not sided and all(metric.is_symmetric for metric in options.metrics)


def plan_reference(
    options: ScoringOptions, a: SideShape, members: Sequence[SideShape], limits: CostLimits | None = None
) -> Plan:
    """Check a request against the model and every member, and plan its cost.

    The cost is an upper bound: the members' scores against each other are computed once, and a layer's graph serves all pairs.

    Returns
    -------
    Plan
        `cells` counts the layer pairs of all comparisons, those between members included.

    Raises
    ------
    InputError
        The error of an alignment with one of the members; its message names the member.
    TooExpensive
        All alignments together take more operations or seconds than a limit.
    """
    limits = limits or CostLimits()
    memory = CostLimits(bytes=limits.bytes)
    plan_member = cache(lambda member: plan(options, a, member, memory))
    plans = []
    for place, member in enumerate(members):
        with with_prefix(f"Against member {place}"):
            plans.append(plan_member(member))
    pairs = _plan_pairs(mutual_options(options), members, memory, times=1 if is_mirrored(options) else 2)
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


def _plan_pairs(options: ScoringOptions, members: Sequence[SideShape], limits: CostLimits, *, times: int) -> list[Plan]:
    """Return the plan of every pair of members; members of one shape cost the same."""
    counts = Counter(members)
    found: list[Plan] = []
    for i, (first, of_first) in enumerate(counts.items()):
        for second, of_second in list(counts.items())[i:]:
            number = of_first * (of_first - 1) // 2 if first == second else of_first * of_second
            if number:
                found += [plan(options, first, second, limits)] * (number * times)
    return found


#: Default limit of the number of cells of a study.
CELLS_MAX = 20_000
#: Overhead of a cell in seconds.
CELL_S = 0.01
#: Bytes of graphs and moments that are kept between cells, so that each layer is searched once.
SIDES_BYTES = 1_000_000_000


@dataclass(frozen=True)
class ModelDescription:
    """Description of a model, without its rows.

    Attributes
    ----------
    label : name of the model in the study
    shape : rows and layers
    metadata : metadata of the set and of the request
    id : id of the stored set, if it is one
    """

    label: str
    shape: SideShape
    metadata: Metadata
    id: str | None = None

    def describe(self, options: StudyOptions, side: Literal["a", "b"]) -> StudyMember:
        """Return the model's entry in the document."""
        with with_labels(self.label):
            chosen = choose_layers(getattr(options.layers, side), self.shape.names, side)
        return StudyMember(
            label=self.label,
            id=self.id,
            n=self.shape.n,
            depth=len(self.shape.layers),
            width=max(self.shape.dims(chosen)),
            metadata=self.metadata,
        )


@dataclass(frozen=True)
class StudyDescription:
    """The models of a study: rows against columns, or all rows with each other."""

    rows: Sequence[ModelDescription]
    columns: Sequence[ModelDescription] | None

    @property
    def across(self) -> Sequence[ModelDescription]:
        """Models of the columns; those of the rows if the study is square."""
        return self.rows if self.columns is None else self.columns

    def cells(self, options: StudyOptions) -> list[tuple[int, int]]:
        """Return all cells, in the order of work."""
        return list(order_cells(options, len(self.rows), None if self.columns is None else len(self.columns)))

    def members(self, options: StudyOptions) -> tuple[tuple[StudyMember, ...], tuple[StudyMember, ...]]:
        """Return the study of rows and columns in the document."""
        rows = tuple(model.describe(options, "a") for model in self.rows)
        columns = rows if self.columns is None else tuple(model.describe(options, "b") for model in self.columns)
        return rows, columns


def plan_study(
    options: StudyOptions, study: StudyDescription, limits: CostLimits | None = None, cells_max: int = CELLS_MAX
) -> Plan:
    """Check a study against its models and plan its cost: every layer once, and every cell.

    Raises
    ------
    InvalidRequest
        A repeated label, or an analysis of models or metadata that do not exist.
    TooLarge
        More cells than `cells_max`.
    TooExpensive
        More operations, seconds or bytes than a limit.
    InputError
        The error of an alignment of two of the models; its message names them.
    """
    limits = limits or CostLimits()
    check_labels(study)
    cells = study.cells(options)
    if len(cells) > cells_max:
        raise TooLarge(
            f"The study would have {len(cells)} cells; the limit is {cells_max}.",
            value=len(cells),
            limit=cells_max,
            hint="Compare fewer models, or ask the operator for a higher limit.",
            pointer="/rows",
        )
    check_analyses(options, *study.members(options))
    return _plan_cells(options, study, cells, limits)


def _plan_cells(
    options: StudyOptions, study: StudyDescription, cells: Sequence[tuple[int, int]], limits: CostLimits
) -> Plan:
    across, letter = study.across, "row" if study.columns is None else "column"
    known: dict[tuple[SideShape, SideShape], _PairCost] = {}
    seen: set[tuple[str, int]] = set()
    flops, seconds, kept = 0.0, 0.0, 0.0
    for i, j in cells:
        a, b = study.rows[i], across[j]
        key = a.shape, b.shape
        if key not in known:
            with with_labels(a.label, b.label):
                known[key] = _plan_pair(options, a, b, limits)
        pair = known[key]
        new = 1.0 if options.pairing == "id" else _share_new(seen, ("row", i), (letter, j))
        flops += pair.own.flops + new * pair.layers.flops
        seconds += CELL_S + pair.own.seconds + new * pair.layers.seconds
        kept += new * pair.layers.kept
    largest = max((pair.plan for pair in known.values()), key=lambda found: found.bytes)
    totals = {"cells": len(cells), "flops": flops, "seconds": round(seconds, 3), "dim_a": None, "dim_b": None}
    result = largest.model_copy(update={**totals, "bytes": largest.bytes + int(min(kept, SIDES_BYTES))})
    check_cost(result, limits)
    return result


@dataclass(frozen=True)
class _PairCost:
    """Cost of two models: as a job of their own, split into the cost of their layers and that of the pair."""

    plan: Plan
    layers: Work
    own: Work


def _plan_pair(options: StudyOptions, a: ModelDescription, b: ModelDescription, limits: CostLimits) -> _PairCost:
    scoring = options.scoring()
    alone = plan(scoring, a.shape, b.shape, CostLimits(bytes=limits.bytes))
    works = list_works(scoring, find_grid(scoring, alone.n, a.shape, b.shape), streamed=alone.streamed)
    shared, own = works[:2], works[2:]  # reading and searching come first
    kept = sum(work.kept for work in (*own, shared[1]))
    return _PairCost(alone, replace(_sum_works(shared), kept=kept), _sum_works(own))


def _sum_works(works: Sequence[Work]) -> Work:
    return Work(sum(work.flops for work in works), sum(work.seconds for work in works))


def _share_new(seen: set[tuple[str, int]], *members: tuple[str, int]) -> float:
    """Share of the cost of a cell's sides that no earlier cell includes: 0, a half or 1."""
    new = sum(member not in seen for member in members) / 2
    seen.update(members)
    return new


@contextmanager
def with_labels(*labels: str) -> Iterator[None]:
    """Add the labels of models to the errors of a block."""
    try:
        with with_prefix(" and ".join(labels)):
            yield
    except ConsilienceError as error:
        error.pointer = None  # it would point into an alignment
        raise


def check_labels(study: StudyDescription) -> None:
    """Refuse labels that repeat on a side."""
    for side, members in (("rows", study.rows), ("columns", study.columns or ())):
        repeated = [label for label, count in Counter(entry.label for entry in members).items() if count > 1]
        if repeated:
            raise InvalidRequest(
                f"The label {repeated[0]!r} is used by more than one of the {side}.",
                value=repeated[0],
                hint="Give each model a `label` of its own.",
                pointer=f"/{side}",
            )


def check_analyses(options: StudyOptions, rows: Sequence[StudyMember], columns: Sequence[StudyMember]) -> None:
    """Refuse analyses of models or metadata that do not exist."""
    sides = {"rows": rows, "columns": columns}
    for index, trend in enumerate(options.trends):
        at, other = f"/trends/{index}", sides[_other(trend.side)]
        if trend.reference is not None:
            find_member(other, trend.reference, f"{at}/reference")
        for place, key in (("by", trend.by), *((f"covariates/{i}", key) for i, key in enumerate(trend.covariates))):
            read_quantities(sides[trend.side], key, f"{at}/{place}")
    for index, factor in enumerate(options.factors):
        read_series(sides[factor.side], factor, f"/factors/{index}")
    for index, difference in enumerate(options.differences):
        at = f"/differences/{index}"
        find_member(columns, difference.reference, f"{at}/reference")
        for place in ("first", "second"):
            find_member(rows, getattr(difference, place), f"{at}/{place}")
        named = (difference.first, difference.second, difference.reference)
        if rows == columns and len(set(named)) < 3:
            raise InvalidRequest(
                "A difference needs three different models: first, second and reference.",
                value=", ".join(named),
                pointer=at,
            )


def _other(side: StudySide) -> StudySide:
    return "columns" if side == "rows" else "rows"


def find_member(members: Sequence[StudyMember], label: str, pointer: str) -> int:
    """Find the number of a model by its label.

    Raises
    ------
    InvalidRequest
        No model has the label.
    """
    labels = [member.label for member in members]
    if label not in labels:
        raise InvalidRequest(
            f"The study has no model with the label {label!r}.",
            value=label,
            hint=f"The labels are {', '.join(labels)}."
            if len(labels) <= 50
            else "Use one of the labels in the request.",
            pointer=pointer,
        )
    return labels.index(label)


def read_quantities(members: Sequence[StudyMember], key: str, pointer: str | None = None) -> list[float]:
    """Read a number of each model: from its metadata, or its width or depth.

    Raises
    ------
    InvalidRequest
        Some models have no such number; the error names them.
    """
    values = [_read_number(member, key) for member in members]
    missing = [member.label for member, value in zip(members, values, strict=True) if value is None]
    if missing:
        raise InvalidRequest(
            f"{len(missing)} of {len(members)} models have no number {key!r} in their metadata: {', '.join(missing[:10])}.",
            value=key,
            hint=f"Add it to the `metadata` of each model; {' and '.join(BUILT_IN)} always exist.",
            pointer=pointer,
        )
    return [value for value in values if value is not None]


def _read_number(member: StudyMember, key: str) -> float | None:
    value = member.metadata.get(key, getattr(member, key) if key in BUILT_IN else None)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True)
class FactorSeries:
    """Levels of a factor, ascending, and the model of each level in every series."""

    levels: tuple[float, ...]
    members: tuple[tuple[int, ...], ...]


def read_series(members: Sequence[StudyMember], factor: Factor, pointer: str | None = None) -> FactorSeries:
    """Read the models of a factor, in series with the same levels.

    Raises
    ------
    InvalidRequest
        A model has no level, or a series repeats or lacks a level.
    """
    values = read_quantities(members, factor.by, f"{pointer}/by")
    names = [None if factor.within is None else member.metadata.get(factor.within) for member in members]
    series: dict[str, dict[float, int]] = {}
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        models = series.setdefault(str(name), {})
        if value in models:
            raise InvalidRequest(
                f"{members[models[value]].label} and {members[number].label} have the same level {value:g} of {factor.by}.",
                value=value,
                hint="Set `within` to the metadata key that distinguishes the series.",
                pointer=pointer,
            )
        models[value] = number
    levels = tuple(sorted(set(values)))
    for name, models in series.items():
        if len(models) < len(levels):
            missing = min(set(levels) - models.keys())
            raise InvalidRequest(
                f"The series {name!r} has no model at level {missing:g} of {factor.by}.",
                value=name,
                hint="Give every series a model at every level.",
                pointer=pointer,
            )
    return FactorSeries(levels, tuple(tuple(models[level] for level in levels) for models in series.values()))


def assemble(
    options: StudyOptions, study: StudyDescription, found: Mapping[tuple[int, int], Sequence[CellScore]]
) -> StudyDocument:
    """Build the document from the cells found so far, without the analyses that need all cells."""
    rows, columns = study.members(options)
    cells = study.cells(options)
    singles = [single for metric in options.metrics for single in metric.each()]
    known = [cell for cell in cells if cell in found]

    def write(place: int) -> Iterator[StudyCell]:
        for i, j in known:
            score = found[i, j][place]
            yield StudyCell(row=rows[i].label, column=columns[j].label, **dict(score))

    return StudyDocument(
        square=study.columns is None,
        rows=rows,
        columns=columns,
        done=len(known),
        total=len(cells),
        matrices=tuple(
            StudyMatrix(
                metric=single.metric,
                options=single.options(),
                definition=getattr(single, "definition", "standard"),
                direction=single.score_direction,
                cells=tuple(write(place)),
            )
            for place, single in enumerate(singles)
        ),
        seed=options.seed,
    )


def find_label(member: Member, name: str) -> str:
    """Return the label of a set in the study: that of the request, else its name."""
    return member.label or name


def join_metadata(member: Member, metadata: Metadata) -> Metadata:
    """Return a set's metadata, updated with that of the request."""
    return {**metadata, **member.metadata}
