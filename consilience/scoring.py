"""The bridge from words to numbers: options and two sides in, a score document out.

`score` is the public call of the library.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from consilience import __version__
from consilience.contract.jobs import Preparation, ScoringOptions
from consilience.contract.metrics import MutualKnn
from consilience.contract.scores import Pairing, PreparationRecord, Score, ScoreDocument, SideSummary
from consilience.formats.columns import check_length, parse_column
from consilience.formats.files import load_layers, open_path
from consilience.measures.comparison import Comparison, FreshGraphs, GraphSource, Layer, Report, Side
from consilience.measures.registry import measure
from consilience.measures.results import result
from consilience.numerics.arrays import AnyArray, count_duplicates, split_layers
from consilience.numerics.intervals import list_length
from consilience.numerics.preparation import find_clamp
from consilience.planning import check_neighbours, check_pairing, choose_layers

#: Packages whose version can change a number.
VERSIONED = ("numpy", "scipy", "faiss-cpu", "numba")
#: Strings or integers for a and for b, one a row.
Columns = tuple[Sequence[str | int] | None, Sequence[str | int] | None]


@dataclass(frozen=True)
class ArrayLayer:
    """A layer in memory."""

    name: str
    array: AnyArray

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.array)

    @property
    def dim(self) -> int:
        """Number of columns."""
        return int(self.array.shape[1])

    @property
    def digest(self) -> str:
        """SHA-256 of the numbers."""
        return sha256(self.array.tobytes()).hexdigest()

    def rows(self, start: int, stop: int) -> AnyArray:
        """Rows start to stop."""
        return self.array[start:stop]


@dataclass(frozen=True)
class Source:
    """One side as it comes in: all layers of a model, under a name, from a store or from memory."""

    name: str
    layers: Sequence[Layer]
    id: str | None = None
    ids: Sequence[str] | None = None
    groups: Sequence[str] | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.layers[0].n


def ignore_progress(stage: str, done: int, total: int) -> None:
    """Report to nobody."""


def score(
    a: object,
    b: object,
    options: ScoringOptions | None = None,
    *,
    ids: Columns = (None, None),
    groups: Columns = (None, None),
    report: Report = ignore_progress,
    **fields: object,
) -> ScoreDocument:
    """Measure how far two embedding spaces agree.

    Parameters
    ----------
    a, b : array of shape (n, d) or (n, L, d), mapping of layer name to (n, d) array, or path of a file
        Paired rows: row i of both is the same item. float16, bfloat16, float32 or float64, finite, n >= 4. A file is npy, npz,
        safetensors or JSON.
    options : ScoringOptions, optional
        Or its fields as keywords: ``score(a, b, metrics=["cka"], layers="all", preparation="prh")``.
    ids, groups : pairs of sequences of n strings or integers, optional
        For a and for b: which item each row is (for ``pairing="id"``), and which rows belong together, such as captions of one
        image. A JSON file may hold its own.
    report : callable, optional
        Called with a stage, what is done and what there is to do.

    Returns
    -------
    ScoreDocument
        Each score with its chance level, p-value, interval and layers; an undefined score says why.

    Raises
    ------
    InputError
        What cannot be scored, with the offending value: see `consilience.errors`.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    >>> turned = rows @ np.linalg.qr(rows.T @ rows)[0]
    >>> score(rows, turned, metrics="mutual_knn").scores[0].value
    1.0
    """
    chosen = options if options is not None else ScoringOptions.model_validate(fields)
    side_a = _with_columns(open_source(a, "a"), ids[0], groups[0], "a")
    side_b = _with_columns(open_source(b, "b"), ids[1], groups[1], "b")
    return score_sources(chosen, side_a, side_b, FreshGraphs(), report)


def open_source(value: object, side: str) -> Source:
    """Read one side of a local call: an array, a mapping of arrays, or a path."""
    if isinstance(value, str | Path):
        path = Path(value)
        with open_path(path) as file:
            layers_read = [ArrayLayer(name, array) for name, array in load_layers(file)]
            return Source(path.stem, layers_read, ids=file.ids, groups=file.groups)
    layers = split_layers(value, side)
    return Source(side, [ArrayLayer(name, array) for name, array in layers.items()])


def _with_columns(source: Source, ids: object, groups: object, side: str) -> Source:
    return replace(
        source,
        ids=_column(ids, f"ids_{side}", source.n) or source.ids,
        groups=_column(groups, f"groups_{side}", source.n) or source.groups,
    )


def _column(values: object, name: str, n: int) -> tuple[str, ...] | None:
    if values is None:
        return None
    column = parse_column(values, name)
    check_length(column, n, name)
    return column


def score_sources(options: ScoringOptions, a: Source, b: Source, graphs: GraphSource, report: Report) -> ScoreDocument:
    """Score two sides whose layers can be read, with graphs from wherever they come."""
    check_pairing(a.n, b.n)
    check_neighbours(options, a.n)
    stopwatch = Stopwatch()
    report("preparation", 0, 1)
    with stopwatch.time("preparation"):
        side_a, side_b = _open_side(options, a, "a", graphs), _open_side(options, b, "b", graphs)
        pairing = _pair(a, b)
    comparison = Comparison(side_a, side_b, _list_length(options, a.n), options.seed, report)
    scores = tuple(_score_each(options, comparison, stopwatch))
    return ScoreDocument(
        a=_summarise(a, side_a),
        b=_summarise(b, side_b),
        n=a.n,
        pairing=pairing,
        preparation=_record(options.preparation, side_a, side_b),
        scores=scores,
        seed=options.seed,
        warnings=_warn_of_duplicates(pairing),
        versions=find_versions(),
        timings_s=stopwatch.rounded(),
    )


def _score_each(options: ScoringOptions, comparison: Comparison, stopwatch: "Stopwatch") -> Iterator[Score]:
    for choice in options.metrics:
        for metric in choice.each():
            with stopwatch.time(metric.metric):
                measurement = measure(metric, comparison)
            with stopwatch.time("null_and_interval"):
                yield result(metric, measurement, comparison, options.null, options.interval)


def _open_side(options: ScoringOptions, source: Source, side: str, graphs: GraphSource) -> Side:
    """Choose the layers of one side and find how their rows are prepared."""
    names = [layer.name for layer in source.layers]
    chosen = [names.index(name) for name in choose_layers(getattr(options.layers, side), names, side)]
    preparation = options.preparation
    clamps: tuple[float | None, ...] = (None,) * len(names)
    if preparation.profile == "prh":
        clamps = find_clamp(source.layers, preparation.clamp_quantile, preparation.clamp_scope)
    return Side(
        layers=[source.layers[i] for i in chosen],
        clamps=[clamps[i] for i in chosen],
        normalise=preparation.profile != "none",
        graphs=graphs,
    )


def _list_length(options: ScoringOptions, n: int) -> int:
    """Neighbours per row that the longest of the metrics' lists needs, with its interval."""
    wanted = [k for metric in options.metrics if isinstance(metric, MutualKnn) for k in metric.k]
    if not wanted:
        return 0
    population = options.interval is not None and options.interval.target == "population"
    return list_length(n, max(wanted)) if population else max(wanted)


def _pair(a: Source, b: Source) -> Pairing:
    """Pair by row, and count the rows that come more than once."""
    first_a, first_b = a.layers[0], b.layers[0]
    return Pairing(
        matched=a.n,
        duplicates_a=count_duplicates(first_a.rows(0, a.n)),
        duplicates_b=count_duplicates(first_b.rows(0, b.n)),
    )


def _warn_of_duplicates(pairing: Pairing) -> tuple[str, ...]:
    counts = (("a", pairing.duplicates_a), ("b", pairing.duplicates_b))
    return tuple(
        f"{count} of {pairing.matched} rows of {side} equal an earlier row: their neighbours are tied and are taken by id."
        for side, count in counts
        if count
    )


def _summarise(source: Source, side: Side) -> SideSummary:
    return SideSummary(id=source.id, name=source.name, n=source.n, layers=tuple(layer.name for layer in side.layers))


def _record(preparation: Preparation, a: Side, b: Side) -> PreparationRecord:
    normalise = None if preparation.profile == "none" else "l2"
    if preparation.profile != "prh":
        return PreparationRecord(profile=preparation.profile, normalise=normalise)
    return PreparationRecord(
        profile="prh",
        normalise=normalise,
        clamp_quantile=preparation.clamp_quantile,
        clamp_scope=preparation.clamp_scope,
        clamp_a=_thresholds(preparation, a),
        clamp_b=_thresholds(preparation, b),
    )


def _thresholds(preparation: Preparation, side: Side) -> float | tuple[float, ...] | None:
    """One threshold for the model, or one for each layer that takes part."""
    thresholds = tuple(clamp for clamp in side.clamps if clamp is not None)
    return thresholds[0] if preparation.clamp_scope == "model" else thresholds


@cache
def find_versions() -> dict[str, str]:
    """Versions of everything that can change a number."""
    return {"consilience": __version__} | {name: version(name) for name in VERSIONED}


@dataclass
class Stopwatch:
    """Seconds spent by stage."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of a block to its stage."""
        start = perf_counter()
        yield
        self.seconds[stage] += perf_counter() - start

    def rounded(self) -> dict[str, float]:
        """To a tenth of a millisecond."""
        return {stage: round(seconds, 4) for stage, seconds in self.seconds.items()}
