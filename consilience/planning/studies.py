"""What a study will cost, and whether its questions can be answered: known before anything is queued.

Standard library and contract only, as all of planning: the API asks here at POST, the library before it computes.
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
from consilience.planning.costs import find_works
from consilience.planning.work import JOB_S, Work


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
        with with_prefix(f"Against member {place}"):
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


#: Cells that a study may have, where nobody says otherwise.
CELLS_MAX = 20_000
#: Seconds of a cell beside its arithmetic.
CELL_S = 0.01
#: Bytes of graphs and moments that are kept between cells, so that each layer is searched once.
SIDES_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Entry:
    """What is known of a model before its rows are read.

    Attributes
    ----------
    label : what the study calls it
    shape : its rows and layers
    metadata : its own, and what the request adds
    id : of the stored set, where it is one
    """

    label: str
    shape: SideShape
    metadata: Metadata
    id: str | None = None

    def describe(self, options: StudyOptions, side: Literal["a", "b"]) -> StudyMember:
        """The model as the document shows it."""
        with named(self.label):
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
class Entries:
    """The models of a study: rows against columns, or all rows with each other."""

    rows: Sequence[Entry]
    columns: Sequence[Entry] | None

    @property
    def across(self) -> Sequence[Entry]:
        """Those of the columns, the rows themselves in a square."""
        return self.rows if self.columns is None else self.columns

    def cells(self, options: StudyOptions) -> list[tuple[int, int]]:
        """Every cell, in the order of work."""
        return list(order_cells(options, len(self.rows), None if self.columns is None else len(self.columns)))

    def members(self, options: StudyOptions) -> tuple[tuple[StudyMember, ...], tuple[StudyMember, ...]]:
        """The models of rows and columns as the document shows them."""
        rows = tuple(entry.describe(options, "a") for entry in self.rows)
        columns = rows if self.columns is None else tuple(entry.describe(options, "b") for entry in self.columns)
        return rows, columns


def plan_study(
    options: StudyOptions, entries: Entries, limits: CostLimits | None = None, cells_max: int = CELLS_MAX
) -> Plan:
    """Check a study against its models and say what it will cost: every layer once, and every cell.

    Raises
    ------
    InvalidRequest
        Labels that repeat, questions about models or metadata that are not there.
    TooLarge
        More cells than `cells_max`.
    TooExpensive
        More operations, seconds or bytes than a limit.
    InputError
        What a pair job of two of the models would be refused for; the error names them.
    """
    limits = limits or CostLimits()
    check_labels(entries)
    cells = entries.cells(options)
    if len(cells) > cells_max:
        raise TooLarge(
            f"The study would have {len(cells)} cells.",
            value=len(cells),
            limit=cells_max,
            hint="Compare fewer models, or ask the operator for a higher limit.",
            pointer="/rows",
        )
    check_questions(options, *entries.members(options))
    return _plan_cells(options, entries, cells, limits)


def _plan_cells(options: StudyOptions, entries: Entries, cells: Sequence[tuple[int, int]], limits: CostLimits) -> Plan:
    across, letter = entries.across, "row" if entries.columns is None else "column"
    known: dict[tuple[SideShape, SideShape], _Pair] = {}
    seen: set[tuple[str, int]] = set()
    flops, seconds, kept = 0.0, 0.0, 0.0
    for i, j in cells:
        a, b = entries.rows[i], across[j]
        key = a.shape, b.shape
        if key not in known:
            with named(a.label, b.label):
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
class _Pair:
    """What two models cost: as a job of their own, and of it what belongs to their layers and what to the pair."""

    plan: Plan
    layers: Work
    own: Work


def _plan_pair(options: StudyOptions, a: Entry, b: Entry, limits: CostLimits) -> _Pair:
    scoring = options.scoring()
    alone = plan(scoring, a.shape, b.shape, CostLimits(bytes=limits.bytes))
    works = find_works(scoring, find_grid(scoring, alone.n, a.shape, b.shape), streamed=alone.streamed)
    shared, own = works[:2], works[2:]  # reading and searching come first
    kept = sum(work.kept for work in (*own, shared[1]))
    return _Pair(alone, replace(_total(shared), kept=kept), _total(own))


def _total(works: Sequence[Work]) -> Work:
    return Work(sum(work.flops for work in works), sum(work.seconds for work in works))


def _share_new(seen: set[tuple[str, int]], *members: tuple[str, int]) -> float:
    """How much of what a cell's sides cost is not yet paid: 0, a half or 1."""
    new = sum(member not in seen for member in members) / 2
    seen.update(members)
    return new


@contextmanager
def named(*labels: str) -> Iterator[None]:
    """Errors of the block name the models they are about."""
    try:
        with with_prefix(" and ".join(labels)):
            yield
    except ConsilienceError as error:
        error.pointer = None  # it would be one of an alignment
        raise


def check_labels(entries: Entries) -> None:
    """Refuse labels that come twice on a side."""
    for side, members in (("rows", entries.rows), ("columns", entries.columns or ())):
        repeated = [label for label, count in Counter(entry.label for entry in members).items() if count > 1]
        if repeated:
            raise InvalidRequest(
                f"Two of the {side} are called {repeated[0]}.",
                value=repeated[0],
                hint="Give each its own `label`.",
                pointer=f"/{side}",
            )


def check_questions(options: StudyOptions, rows: Sequence[StudyMember], columns: Sequence[StudyMember]) -> None:
    """Refuse questions about models or metadata that are not there."""
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
            raise InvalidRequest("A difference is between two models and a third.", value=", ".join(named), pointer=at)


def _other(side: StudySide) -> StudySide:
    return "columns" if side == "rows" else "rows"


def find_member(members: Sequence[StudyMember], label: str, pointer: str) -> int:
    """The number of a model by its label; InvalidRequest where there is none."""
    labels = [member.label for member in members]
    if label not in labels:
        raise InvalidRequest(
            f"There is no model {label!r} here.",
            value=label,
            hint=f"There are {', '.join(labels)}." if len(labels) <= 50 else "See the labels of the request.",
            pointer=pointer,
        )
    return labels.index(label)


def read_quantities(members: Sequence[StudyMember], key: str, pointer: str | None = None) -> list[float]:
    """A number of each model: of its metadata, or its width or depth.

    Raises
    ------
    InvalidRequest
        Some have none; the error names them.
    """
    values = [_read_number(member, key) for member in members]
    missing = [member.label for member, value in zip(members, values, strict=True) if value is None]
    if missing:
        raise InvalidRequest(
            f"{len(missing)} of {len(members)} models have no number {key!r}: {', '.join(missing[:10])}.",
            value=key,
            hint=f"Give it in the `metadata` of each model; {' and '.join(BUILT_IN)} are always there.",
            pointer=pointer,
        )
    return [value for value in values if value is not None]


def _read_number(member: StudyMember, key: str) -> float | None:
    value = member.metadata.get(key, getattr(member, key) if key in BUILT_IN else None)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True)
class Series:
    """The levels of a factor, ascending, and which model stands for each in every series."""

    levels: tuple[float, ...]
    members: tuple[tuple[int, ...], ...]


def read_series(members: Sequence[StudyMember], factor: Factor, pointer: str | None = None) -> Series:
    """The models of a factor, in series of the same levels.

    Raises
    ------
    InvalidRequest
        A model has no level, or a series has a level twice or lacks one.
    """
    values = read_quantities(members, factor.by, f"{pointer}/by")
    names = [None if factor.within is None else member.metadata.get(factor.within) for member in members]
    series: dict[str, dict[float, int]] = {}
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        places = series.setdefault(str(name), {})
        if value in places:
            raise InvalidRequest(
                f"{members[places[value]].label} and {members[number].label} have the same level {value:g} of {factor.by}.",
                value=value,
                hint="Say with `within` which key of the metadata tells the series apart.",
                pointer=pointer,
            )
        places[value] = number
    levels = tuple(sorted(set(values)))
    for name, places in series.items():
        if len(places) < len(levels):
            lacking = min(set(levels) - places.keys())
            raise InvalidRequest(
                f"The series {name} has no model at level {lacking:g} of {factor.by}.",
                value=name,
                hint="Every series needs every level.",
                pointer=pointer,
            )
    return Series(levels, tuple(tuple(places[level] for level in levels) for places in series.values()))


def assemble(
    options: StudyOptions, entries: Entries, found: Mapping[tuple[int, int], Sequence[CellScore]]
) -> StudyDocument:
    """The document as far as cells are there, without what needs all of them."""
    rows, columns = entries.members(options)
    cells = entries.cells(options)
    singles = [single for metric in options.metrics for single in metric.each()]
    known = [cell for cell in cells if cell in found]

    def write(place: int) -> Iterator[StudyCell]:
        for i, j in known:
            score = found[i, j][place]
            yield StudyCell(row=rows[i].label, column=columns[j].label, **dict(score))

    return StudyDocument(
        square=entries.columns is None,
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
    """What the study calls a set: as the request says, else by its name."""
    return member.label or name


def join_metadata(member: Member, metadata: Metadata) -> Metadata:
    """A set's metadata, and what the request adds to it."""
    return {**metadata, **member.metadata}
