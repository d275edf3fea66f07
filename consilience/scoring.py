"""Scoring of two sides: from options and rows to a score document. `score` is the public call of the library."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, Never

import numpy as np

from consilience import __version__
from consilience.contract.alignments import Aggregate, Preparation, ScoringOptions
from consilience.contract.jobs import Plan
from consilience.contract.keywords import (
    DEFAULT_INTERVAL,
    BuilderArgument,
    EstimateArgument,
    GallerySizesArgument,
    IntervalArgument,
    LayersArgument,
    MetricsArgument,
    NullArgument,
    PairingArgument,
    PreparationArgument,
)
from consilience.contract.metric import NeighbourMetric
from consilience.contract.pointers import with_prefix
from consilience.contract.scores import PreparationRecord, Score, ScoreDocument, SideSummary
from consilience.contract.search import Approximate
from consilience.contract.validation import read_options
from consilience.formats.columns import check_length, parse_column
from consilience.formats.file_layers import find_file_layers
from consilience.formats.files import OpenFile, load_layers, open_path
from consilience.memory import find_job_memory
from consilience.metrics.comparison import Comparison, PairedSides, Report, pair
from consilience.metrics.graph_sources import CountedGraphs, FreshGraphs, GraphSource
from consilience.metrics.query_sampling import sample_queries
from consilience.metrics.registry import measure
from consilience.metrics.results import correct, result
from consilience.metrics.sides import PreparedSide
from consilience.numerics.knn.devices import check_device
from consilience.numerics.rows.arrays import split_layers
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor
from consilience.numerics.rows.prepared import find_clamp, find_exact_clamp
from consilience.numerics.rows.sources import ArrayLayer, ConcatLayer, RawLayer, SelectedLayer, SideSource
from consilience.numerics.stats.intervals import list_length
from consilience.planning.alignments import (
    CostLimits,
    SideShape,
    check_neighbours,
    check_pairing,
    check_query_sample,
    choose_gallery_sizes,
    choose_layers,
    plan_rows,
)

#: Packages whose version can change a score.
VERSIONED_PACKAGES = ("numpy", "scipy", "faiss-cpu", "numba")
#: Size in bytes above which a file is read by blocks, each time that rows are needed.
LOADED_BYTES = 32_000_000
#: Identity of a prepared side within one process.
SideKey = tuple[object, ...]
#: Returns the side of a key: a known one, or a new one that the callable builds.
SideLoader = Callable[[SideKey, Callable[[], PreparedSide]], PreparedSide]
#: Strings or integers for a and for b, one per row.
Columns = tuple[Sequence[str | int] | None, Sequence[str | int] | None]


def ignore_progress(stage: str, done: int, total: int) -> None:
    """Ignore a report of progress."""


def score(
    a: object,
    b: object,
    options: ScoringOptions | None = None,
    *,
    metrics: MetricsArgument = ("mutual_knn", "cka"),
    layers: LayersArgument = "last",
    aggregate: Aggregate = "max",
    top_k: int = 5,
    concat: bool = False,
    preparation: PreparationArgument = "l2",
    null: NullArgument = "auto",
    interval: IntervalArgument = DEFAULT_INTERVAL,
    estimate: EstimateArgument = "all",
    builder: BuilderArgument = "auto",
    gallery_sizes: GallerySizesArgument = None,
    memory_budget_bytes: int | None = None,
    pairing: PairingArgument = "row",
    seed: int = 0,
    metadata: dict[str, Any] | None = None,
    ids: Columns = (None, None),
    groups: Columns = (None, None),
    device: str = "cpu",
    report: Report = ignore_progress,
    **unknown: Never,
) -> ScoreDocument:
    """Measure how far two embedding spaces agree.

    Parameters
    ----------
    a, b : array of shape (n, d) or (n, L, d), mapping of layer name to (n, d) array, or path of a file
        Paired rows: row i of both is the same item. float16, bfloat16, float32 or float64, finite, n >= 4. A file is npy, npz,
        safetensors, JSON, Parquet or Arrow.
    options : ScoringOptions, optional
        All options as one value, instead of the keyword arguments `metrics` to `metadata`.
    metrics : str, mapping, metric, or sequence of 1 to 32 of them
        A metric's name, or its options as in the HTTP contract: ``{"metric": "mutual_knn", "k": [5, 10]}``.
    layers : {"last", "all"}, sequence of layer names, or mapping with ``a`` and ``b``
        Layers that take part, on both sides or on each.
    aggregate : {"max", "row_max_mean", "column_max_mean", "top_k_mean", "hungarian_mean"}
        Rule that makes one score of the grid of layer pairs.
    top_k : int, 1 to 10,000
        Number of layer pairs that ``top_k_mean`` averages.
    concat : bool
        Add all layers side by side as one more layer, ``concat``.
    preparation : {"l2", "none", "centre_l2", "prh", "prh_exact"} or mapping
        Scaling of the rows before they are compared: ``{"profile": "prh", "clamp_quantile": 0.95}``.
    null : {"auto", "analytic", "permutation", "none"} or mapping
        Method for the chance level and the p-value: ``{"method": "permutation", "permutations": 1000, "correction": "holm"}``.
    interval : mapping or None
        Confidence interval, ``{"level": 0.95, "target": "population"}``; None for no interval.
    estimate : "all" or mapping
        Number of query rows of neighbour metrics: ``{"queries": 1000}``, or ``{"half_width": 0.005}`` to draw as many as make
        the interval that narrow.
    builder : {"auto", "faiss", "symmetric", "verified_bf16"} or mapping
        Method of the neighbour search; ``{"index": "HNSW32"}`` for an approximate FAISS index.
    gallery_sizes : "auto", sequence of at least one int >= 4, or None
        Gallery sizes at which neighbour metrics are scored too.
    memory_budget_bytes : int >= 512,000,000, or None
        Peak memory in bytes; rows that do not fit are read in blocks. None for what this machine has.
    pairing : {"row", "id"}
        Rows are paired by position, or by `ids`.
    seed : int, 0 to 2**63 - 1
        Seed of everything that is random.
    metadata : dict, optional
        JSON of your own; a local score does not use it.
    ids, groups : pairs of sequences of n strings or integers, optional
        For a and for b: the item of each row (for ``pairing="id"``), and the group of each row, such as the captions of one
        image. A JSON file or a table may hold its own.
    device : str
        Device for neighbour search: ``cpu``, ``cuda``, ``cuda:1`` for the second GPU, or ``auto`` for a GPU if there is one and
        it is faster. Every device finds the same neighbours.
    report : callable, optional
        Called with a stage, the work done and the work in total.
    **unknown
        Always an error: no other keyword exists. The type `Never` lets a type checker report it too.

    Returns
    -------
    ScoreDocument
        Each score with its chance level, p-value, interval and layers; a score that is undefined has a reason.

    Raises
    ------
    InvalidOption
        A TypeError: a keyword that does not exist, or keywords beside `options`.
    InvalidRequest
        An option whose value is not allowed, with its JSON pointer.
    InputError
        Sides that cannot be scored, with the offending value: see `consilience.errors`.
    Unavailable
        The device does not exist on this machine.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    >>> turned = rows @ np.linalg.qr(rows.T @ rows)[0]
    >>> score(rows, turned, metrics="mutual_knn").scores[0].value
    1.0
    """
    chosen = read_options(ScoringOptions, score, options, locals())
    side_a = with_columns(open_source(a, "a"), ids[0], groups[0], "a")
    side_b = with_columns(open_source(b, "b"), ids[1], groups[1], "b")
    return score_sources(chosen, side_a, side_b, FreshGraphs(), report, device=device)


def open_source(value: object, side: str) -> SideSource:
    """Open one side of a call: an array, a mapping of arrays, or a path, which then is part of error messages."""
    if isinstance(value, str | Path):
        path = Path(value)
        with with_prefix(f"File {path}"), open_path(path) as file:
            return SideSource(path.stem, _open_layers(path, file), ids=file.ids, groups=file.groups)
    layers = split_layers(value, side)
    return SideSource(side, [ArrayLayer(name, array) for name, array in layers.items()])


def _open_layers(path: Path, file: OpenFile) -> Sequence[RawLayer]:
    """Open the layers of a file: a large file is read by blocks if its format allows, another is loaded."""
    if path.stat().st_size > LOADED_BYTES and (found := find_file_layers(path, file)) is not None:
        return found
    return [ArrayLayer(name, array) for name, array in load_layers(file)]


def with_columns(source: SideSource, ids: object, groups: object, side: str) -> SideSource:
    """Return the side with ids and groups of the call, which replace its own."""
    return replace(
        source,
        ids=_read_column(ids, f"ids_{side}", source.n) or source.ids,
        groups=_read_column(groups, f"groups_{side}", source.n) or source.groups,
    )


def _read_column(values: object, name: str, n: int) -> tuple[str, ...] | None:
    if values is None:
        return None
    column = parse_column(values, name)
    check_length(column, n, name)
    return column


def build_side(key: SideKey, build: Callable[[], PreparedSide]) -> PreparedSide:  # noqa: ARG001 - part of SideLoader
    """Build a side without keeping it."""
    return build()


def score_sources(
    options: ScoringOptions,
    a: SideSource,
    b: SideSource,
    graphs: GraphSource,
    report: Report,
    *,
    sides: SideLoader = build_side,
    executor: Executor = LOCAL_EXECUTOR,
    device: str = "cpu",
    plan: Plan | None = None,
) -> ScoreDocument:
    """Score two opened sides.

    Parameters
    ----------
    graphs : source of neighbour graphs
    sides : callable
        Returns prepared sides; a cache saves work if the same side is scored more than once.
    plan : Plan, optional
        Plan of these sides, if there is one already. By default they are planned here.
    """
    stopwatch, counted = Stopwatch(), CountedGraphs(graphs)
    report("preparation", 0, 1)
    with stopwatch.time("preparation"):
        paired, comparison = open_comparison(
            options, a, b, counted, report, sides=sides, executor=executor, device=device, plan=plan
        )
    scores = correct(_score_each(options, comparison, stopwatch), options.null)
    return ScoreDocument(
        a=_summarise(a, comparison.a),
        b=_summarise(b, comparison.b),
        n=paired.a.n,
        pairing=paired.record,
        preparation=_preparation_record(options.preparation, comparison.a, comparison.b),
        scores=scores,
        graphs=counted.use,
        seed=options.seed,
        warnings=paired.warnings(),
        versions=find_versions(),
        timings_s=stopwatch.rounded(),
    )


def open_comparison(
    options: ScoringOptions,
    a: SideSource,
    b: SideSource,
    graphs: GraphSource,
    report: Report,
    *,
    sides: SideLoader = build_side,
    executor: Executor = LOCAL_EXECUTOR,
    device: str = "cpu",
    plan: Plan | None = None,
) -> tuple[PairedSides, Comparison]:
    """Pair two sides and prepare them for the metrics; the parameters are those of `score_sources`.

    Raises
    ------
    InputError, Unavailable
    """
    if device != "cpu":
        check_device(device)
    if options.pairing == "row":
        check_pairing(a.n, b.n)
    paired = pair(a, b, options.pairing, graphs.fact)
    check_pairing(paired.a.n, paired.b.n)
    check_neighbours(options, _neighbours_max(paired))
    check_query_sample(options, paired.a.n)
    rows_bytes = 0 if (plan or _plan(options, paired)).streamed else sys.maxsize
    side_a, side_b = (
        sides(
            _side_key(options, paired, side, rows_bytes),
            partial(_open_side, options, paired, side, graphs, executor=executor, rows_bytes=rows_bytes, device=device),
        )
        for side in ("a", "b")
    )
    length = _list_length(options, paired.a.n, _neighbours_max(paired))
    return paired, Comparison(side_a, side_b, length, options.seed, report, paired.groups)


def _side_key(options: ScoringOptions, paired: PairedSides, side: str, rows_bytes: int) -> SideKey:
    """Return what a prepared side depends on beside shared options: rows, groups, layers, and whether it is streamed."""
    source: SideSource = getattr(paired, side)
    layer = source.layers[0]
    rows = (
        (id(layer.layer), sha256(layer.index.tobytes()).digest()) if isinstance(layer, SelectedLayer) else (id(layer),)
    )
    groups = None if paired.groups is None else sha256(paired.groups.tobytes()).digest()
    return (*rows, groups, getattr(options.layers, side), rows_bytes)


def _score_each(options: ScoringOptions, comparison: Comparison, stopwatch: "Stopwatch") -> Iterator[Score]:
    measure_metric = measure
    with stopwatch.time("queries"):
        sizes = choose_gallery_sizes(options, comparison.n)
        if sizes or options.estimate != "all":
            measure_metric = sample_queries(options, comparison, sizes).measure
    for choice in options.metrics:
        for metric in choice.each():
            with stopwatch.time(metric.metric):
                measurement = measure_metric(metric, comparison)
            with stopwatch.time("null_and_interval"):
                yield result(metric, measurement, comparison, options)


def _neighbours_max(paired: PairedSides) -> int:
    """Return the largest number of neighbours that every row has: all rows outside its own group."""
    largest_group = 1 if paired.groups is None else int(np.bincount(paired.groups).max())
    return paired.a.n - largest_group


def _plan(options: ScoringOptions, paired: PairedSides) -> Plan:
    """Plan within the memory budget of the request, or that of this machine.

    Raises
    ------
    TooExpensive
    """
    shapes = [
        SideShape(side.n, tuple((layer.name, layer.dim) for layer in side.layers), has_groups=side.groups is not None)
        for side in (paired.a, paired.b)
    ]
    limits = CostLimits(bytes=options.memory_budget_bytes or find_job_memory())
    return plan_rows(options, paired.a.n, shapes[0], shapes[1], limits)


def _open_side(
    options: ScoringOptions,
    paired: PairedSides,
    side: str,
    graphs: GraphSource,
    *,
    executor: Executor,
    rows_bytes: int,
    device: str,
) -> PreparedSide:
    """Choose the layers of one side and the preparation of their rows."""
    source = paired.a if side == "a" else paired.b
    names = [layer.name for layer in source.layers]
    chosen = [names.index(name) for name in choose_layers(getattr(options.layers, side), names, side)]
    clamps = _find_clamps(options.preparation, source.layers)
    layers = [source.layers[i] for i in chosen]
    thresholds = [clamps[i] for i in chosen]
    if options.concat and len(names) > 1:
        layers.append(ConcatLayer(source.layers, clamps))
        thresholds.append(None)  # each of its parts has a clamp of its own
    return PreparedSide(
        layers=layers,
        clamps=thresholds,
        centre=options.preparation.profile == "centre_l2",
        normalise=options.preparation.profile != "none",
        source=graphs,
        groups=paired.groups,
        builder=options.builder,
        seed=options.seed,
        executor=executor,
        rows_bytes=rows_bytes,
        device=device,
        persistent=source.persistent,
    )


def _find_clamps(preparation: Preparation, layers: Sequence[RawLayer]) -> tuple[float | None, ...]:
    if preparation.profile == "prh":
        return find_clamp(layers, preparation.clamp_quantile, preparation.clamp_scope)
    if preparation.profile == "prh_exact":
        return find_exact_clamp(layers, preparation.clamp_quantile, preparation.clamp_scope)
    return (None,) * len(layers)


def _list_length(options: ScoringOptions, n: int, neighbours_max: int) -> int:
    """Return the length of the neighbour lists that the metrics and their intervals need."""
    wanted = [k for metric in options.metrics if isinstance(metric, NeighbourMetric) for k in metric.k]
    if not wanted:
        return 0
    exact = not isinstance(options.builder, Approximate)  # approximate graphs have no interval
    population = exact and options.interval is not None and options.interval.target != "gallery"
    return min(list_length(n, max(wanted)), neighbours_max) if population else max(wanted)


def _summarise(source: SideSource, side: PreparedSide) -> SideSummary:
    return SideSummary(id=source.id, name=source.name, n=source.n, layers=tuple(layer.name for layer in side.layers))


def _preparation_record(preparation: Preparation, a: PreparedSide, b: PreparedSide) -> PreparationRecord:
    normalise = None if preparation.profile == "none" else "l2"
    if preparation.profile not in ("prh", "prh_exact"):
        return PreparationRecord(
            profile=preparation.profile, centre=preparation.profile == "centre_l2", normalise=normalise
        )
    return PreparationRecord(
        profile=preparation.profile,
        normalise=normalise,
        clamp_quantile=preparation.clamp_quantile,
        clamp_scope=preparation.clamp_scope,
        clamp_a=_clamp_record(preparation, a),
        clamp_b=_clamp_record(preparation, b),
    )


def _clamp_record(preparation: Preparation, side: PreparedSide) -> float | tuple[float, ...] | None:
    """Return one clamp for the model, or one for each layer that takes part."""
    thresholds = tuple(clamp for clamp in side.rows.clamps if clamp is not None)
    return thresholds[0] if preparation.clamp_scope == "model" else thresholds


@cache
def find_versions() -> dict[str, str]:
    """Return the versions of all packages that can change a score."""
    return {"consilience": __version__} | {name: version(name) for name in VERSIONED_PACKAGES}


@dataclass
class Stopwatch:
    """Seconds spent in each stage."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of a block to its stage."""
        start = perf_counter()
        yield
        self.seconds[stage] += perf_counter() - start

    def rounded(self) -> dict[str, float]:
        """Return the seconds rounded to a tenth of a millisecond."""
        return {stage: round(seconds, 4) for stage, seconds in self.seconds.items()}
