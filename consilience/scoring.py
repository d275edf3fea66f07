"""The bridge from words to numbers: options and two sides in, a score document out.

`score` is the public call of the library.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np

from consilience import __version__
from consilience.contract.jobs import Preparation, ScoringOptions
from consilience.contract.metric import NeighbourMetric
from consilience.contract.scores import Pairing, PreparationRecord, Score, ScoreDocument, SideSummary
from consilience.formats.files import read_layers
from consilience.measures.chance import correct
from consilience.measures.comparison import Comparison, FreshGraphs, GraphSource, Layer, Report, Side
from consilience.measures.registry import measure
from consilience.measures.results import result
from consilience.numerics.arrays import AnyArray, count_duplicates, split_layers
from consilience.numerics.intervals import list_length
from consilience.numerics.preparation import find_clamp, find_exact_clamp
from consilience.planning import check_neighbours, check_pairing, choose_layers

#: Packages whose version can change a number.
VERSIONED = ("numpy", "scipy", "faiss-cpu", "numba")


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
class ConcatLayer:
    """All layers of a model side by side, each clamped by its own threshold: the article's extra candidate."""

    layers: Sequence[Layer]
    clamps: Sequence[float | None]
    name: str = "concat"

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.layers[0].n

    @property
    def dim(self) -> int:
        """Columns of all layers."""
        return sum(layer.dim for layer in self.layers)

    @property
    def digest(self) -> str:
        """Of its parts and their thresholds."""
        parts = [f"{layer.digest} {clamp!r}" for layer, clamp in zip(self.layers, self.clamps, strict=True)]
        return sha256(" ".join(parts).encode()).hexdigest()

    def rows(self, start: int, stop: int) -> AnyArray:
        """Rows start to stop of every layer, side by side, as float32."""
        blocks = [layer.rows(start, stop).astype(np.float32) for layer in self.layers]
        for block, clamp in zip(blocks, self.clamps, strict=True):
            if clamp is not None:
                np.clip(block, -clamp, clamp, out=block)
        return np.concatenate(blocks, axis=1)


@dataclass(frozen=True)
class Source:
    """One side as it comes in: all layers of a model, under a name, from a store or from memory."""

    name: str
    layers: Sequence[Layer]
    id: str | None = None

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
    return score_sources(chosen, open_source(a, "a"), open_source(b, "b"), FreshGraphs(), report)


def open_source(value: object, side: str) -> Source:
    """Read one side of a local call: an array, a mapping of arrays, or a path."""
    if isinstance(value, str | Path):
        path = Path(value)
        return Source(path.stem, [ArrayLayer(name, array) for name, array in read_layers(path)])
    layers = split_layers(value, side)
    return Source(side, [ArrayLayer(name, array) for name, array in layers.items()])


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
    scores = correct(_score_each(options, comparison, stopwatch), options.null)
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
                yield result(metric, measurement, comparison, options)


def _open_side(options: ScoringOptions, source: Source, side: str, graphs: GraphSource) -> Side:
    """Choose the layers of one side and find how their rows are prepared."""
    names = [layer.name for layer in source.layers]
    chosen = [names.index(name) for name in choose_layers(getattr(options.layers, side), names, side)]
    clamps = _find_clamps(options.preparation, source.layers)
    layers = [source.layers[i] for i in chosen]
    thresholds = [clamps[i] for i in chosen]
    if options.concat and len(names) > 1:
        layers.append(ConcatLayer(source.layers, clamps))
        thresholds.append(None)  # its parts are clamped one by one
    return Side(
        layers=layers,
        clamps=thresholds,
        centre=options.preparation.profile == "centre_l2",
        normalise=options.preparation.profile != "none",
        graphs=graphs,
    )


def _find_clamps(preparation: Preparation, layers: Sequence[Layer]) -> tuple[float | None, ...]:
    if preparation.profile == "prh":
        return find_clamp(layers, preparation.clamp_quantile, preparation.clamp_scope)
    if preparation.profile == "prh_exact":
        return find_exact_clamp(layers, preparation.clamp_quantile, preparation.clamp_scope)
    return (None,) * len(layers)


def _list_length(options: ScoringOptions, n: int) -> int:
    """Neighbours per row that the longest of the metrics' lists needs, with its interval."""
    wanted = [k for metric in options.metrics if isinstance(metric, NeighbourMetric) for k in metric.k]
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
    if preparation.profile not in ("prh", "prh_exact"):
        return PreparationRecord(
            profile=preparation.profile, centre=preparation.profile == "centre_l2", normalise=normalise
        )
    return PreparationRecord(
        profile=preparation.profile,
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
