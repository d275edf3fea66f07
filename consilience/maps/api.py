"""Maps between embedding spaces: fitting, evaluation on held-out rows, files, and translation of new vectors.

`fit_map`, `load_map` and `apply_map` are the public calls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Never, TypedDict

import numpy as np

from consilience.contract.keywords import MapArgument, MapLayersArgument, PairingArgument
from consilience.contract.maps import (
    BestLinearMap,
    ChanceLevel,
    Evaluation,
    MapDocument,
    MapOptions,
    MapPreparation,
    MapSide,
    MlpMap,
)
from consilience.contract.validation import read_options
from consilience.errors import InvalidRequest, UnsupportedDtype
from consilience.formats.checks import stored_dtype
from consilience.formats.map_files import MapFile, read_map, tensors_digest, write_map
from consilience.formats.open_file import NUMPY_DTYPES
from consilience.formats.reading import start_hash
from consilience.formats.writing import write_npy
from consilience.limits import TRANSLATION_ROWS
from consilience.maps.fit import (
    TrainingSums,
    TrainTestSplit,
    best_linear,
    compute_sums,
    fit_linear,
    fit_transform,
    fit_warnings,
)
from consilience.maps.report import describe_chance, describe_evaluation
from consilience.metrics.comparison import PairedSides, Report, pair
from consilience.metrics.graph_sources import FreshGraphs
from consilience.numerics.regression.evaluation import evaluate_maps
from consilience.numerics.regression.maps import LinearStep, Transform, translate
from consilience.numerics.rows.arrays import AnyArray, Float32Array
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor
from consilience.numerics.rows.prepared import RawRows
from consilience.numerics.rows.sources import RawLayer, SideSource, raw_blocks
from consilience.planning.alignments import check_pairing, choose_layer
from consilience.planning.maps import check_choice
from consilience.scoring import Columns, Stopwatch, find_versions, ignore_progress, open_source, with_columns

#: Names of the models of a and of b; None if unknown.
ModelNames = tuple[str | None, str | None]


@dataclass(frozen=True)
class Map:
    """A fitted map with its card.

    Attributes
    ----------
    card : kind of map, rows that it was fitted on, and evaluation
    transform : weights
    """

    card: MapDocument
    transform: Transform

    def apply(self, vectors: AnyArray, *, model: str | None = None) -> Float32Array:
        """Translate vectors of a's space into b's: (m, p) to (m, q) float32, m >= 1.

        Rows are prepared as the card says; the result approximates b's prepared rows and is not scaled.

        Parameters
        ----------
        vectors : array of shape (m, p)
            float16, bfloat16, float32 or float64, finite.
        model : str, optional
            Name of the model of the vectors; an error if the card names another model.

        Raises
        ------
        InvalidShape, UnsupportedDtype, NonFiniteValues, InvalidRequest
        """
        self.check_origin(model)
        array = np.asarray(vectors)
        if array.dtype.kind not in "fV" or array.dtype.itemsize > 8:
            raise UnsupportedDtype(
                f"The vectors must be floats of 16, 32 or 64 bits; got {array.dtype}.", value=array.dtype
            )
        return translate(self.transform, array, normalise=self.card.preparation == "l2")

    def check_origin(self, model: str | None = None, digest: str | None = None) -> None:
        """Check that vectors are in a's space: they must not be of another model, nor the rows of b.

        Raises
        ------
        InvalidRequest
        """
        a, b = self.card.a, self.card.b
        if model is not None and a.model is not None and model != a.model:
            raise InvalidRequest(
                f"The map takes vectors of the model {a.model}; got vectors of {model}.",
                value=model,
                limit=a.model,
                hint="Use a map that was fitted from the model of the vectors.",
            )
        if digest is not None and digest == b.digest != a.digest:
            raise InvalidRequest(
                "These vectors are the rows that the map leads to; it takes rows of the other side.",
                value=digest,
                hint="Fit a map in the other direction.",
            )

    def blocks(self, layer: RawRows, step: int = TRANSLATION_ROWS) -> Iterator[Float32Array]:
        """Translate a layer that is read by blocks.

        Raises
        ------
        InvalidShape, NonFiniteValues
        """
        for start in range(0, layer.n, step):
            raw = layer.rows(start, min(start + step, layer.n))
            yield translate(self.transform, raw, normalise=self.card.preparation == "l2", first=start)

    def file(self) -> MapFile:
        """Return the content of the map's file."""
        return MapFile(self.card, _name_tensors(self.transform))

    def save(self, path: str | Path) -> None:
        """Write the map as safetensors, with the card in the header; the file is complete or absent.

        Raises
        ------
        StorageFull, InputError
        """
        write_map(Path(path), self.file())


def load_map(path: str | Path) -> Map:
    """Read a map's file and verify it: card, shapes, values and digest.

    Raises
    ------
    UnreadableFile, TooLarge, NonFiniteValues
    """
    return open_map(read_map(Path(path)))


def open_map(file: MapFile) -> Map:
    """Make a map from the content of its file.

    Raises
    ------
    UnreadableFile
    """
    file.check()
    steps = tuple(LinearStep(weights, bias) for weights, bias in file.steps)
    return Map(file.card, Transform(steps, gelu=isinstance(file.card.map, MlpMap)))


def _name_tensors(transform: Transform) -> dict[str, Float32Array]:
    named: dict[str, Float32Array] = {}
    for place, step in enumerate(transform.steps):
        named |= {f"{place}.weights": step.weights, f"{place}.bias": step.bias}
    return named


def apply_map(
    found: Map | str | Path, vectors: object, *, layer: str = "last", model: str | None = None
) -> Float32Array:
    """Translate vectors with a map.

    Parameters
    ----------
    found : a Map, or the path of its file
    vectors : array of shape (m, p), or path of a file of at least 4 rows
    layer : name of the layer of a file; ``last`` for the last one
    model : name of the model of the vectors, if it is to be checked

    Returns
    -------
    array of shape (m, q), float32

    Raises
    ------
    InputError
        As in `Map.apply` and `load_map`; UnknownLayer.
    """
    opened = found if isinstance(found, Map) else load_map(found)
    if not isinstance(vectors, str | Path):
        return opened.apply(np.asarray(vectors), model=model)
    chosen = pick_layer(open_source(vectors, "a"), layer, None)
    opened.check_origin(model, find_layer_digest(chosen))
    return np.concatenate(list(opened.blocks(chosen)))


def apply_map_to_file(
    found: Map | str | Path, source: str | Path, out: str | Path, *, layer: str = "last", model: str | None = None
) -> tuple[int, int]:
    """Translate a file into an npy file of float32, block by block; the file is complete or absent.

    Returns
    -------
    shape of the array in the new file

    Raises
    ------
    InputError, StorageFull
        As in `apply_map`.
    """
    opened = found if isinstance(found, Map) else load_map(found)
    chosen = pick_layer(open_source(source, "a"), layer, None)
    opened.check_origin(model, find_layer_digest(chosen))
    shape = chosen.n, opened.card.b.dim
    write_npy(Path(out), shape, opened.blocks(chosen))
    return shape


def fit_map(
    a: object,
    b: object,
    options: MapOptions | None = None,
    *,
    map: MapArgument = "ridge",  # noqa: A002 - the contract's word
    layers: MapLayersArgument = "last",
    preparation: MapPreparation = "l2",
    pairing: PairingArgument = "row",
    test_share: float = 0.2,
    max_queries: int = 4096,
    recall_at: int | Sequence[int] = (1, 5, 10),
    level: float = 0.95,
    seed: int = 0,
    metadata: dict[str, Any] | None = None,
    ids: Columns = (None, None),
    groups: Columns = (None, None),
    models: ModelNames = (None, None),
    report: Report = ignore_progress,
    **unknown: Never,
) -> Map:
    """Fit a map from the space of `a` to that of `b` on some rows, and evaluate it on the others.

    Parameters
    ----------
    a, b : array of shape (n, d), or (n, L, d), mapping of layer name to (n, d) array, or path of a file
        Paired rows, as for `consilience.score`; one layer of each is mapped.
    options : MapOptions, optional
        All options as one value, instead of the keyword arguments `map` to `metadata`.
    map : {"ridge", "procrustes", "low_rank", "relative", "mlp"} or mapping
        Kind of map, or its options as in the HTTP contract: ``{"kind": "low_rank", "rank": 32}``.
    layers : str, or mapping with ``a`` and ``b``
        Name of the layer that is mapped, on both sides or on each; ``last`` for the last one.
    preparation : {"l2", "none"}
        l2 scales the rows of both sides to length 1, also when the map is applied.
    pairing : {"row", "id"}
        Rows are paired by position, or by `ids`.
    test_share : float, above 0 and at most 0.5
        Share of the rows (of whole groups) that the map is evaluated on and not fitted on.
    max_queries : int, 1 to 1,000,000
        Largest number of held-out rows that are searched for among all held-out rows.
    recall_at : int, or sequence of 1 to 16 ints, each 1 to 10,000
        Numbers of nearest rows for which recall is given.
    level : float, above 0.5 and at most 0.999999
        Level of the confidence intervals.
    seed : int, 0 to 2**63 - 1
        Seed of the split and of everything else that is random.
    metadata : dict, optional
        JSON of your own, kept in the card.
    ids, groups : pairs of sequences of n strings or integers, optional
        As for `consilience.score`. A group is trained on or held out as a whole.
    models : names of the models of a and of b, optional
        Kept in the card; `apply_map` refuses vectors of another model.
    report : callable, optional
        Called with a stage, the work done and the work in total.
    **unknown
        Always an error: no other keyword exists. The type `Never` lets a type checker report it too.

    Returns
    -------
    Map
        Its card holds the results on held-out rows, beside those of the best linear map and of chance.

    Raises
    ------
    InvalidOption
        A TypeError: a keyword that does not exist, or keywords beside `options`.
    InvalidRequest
        An option whose value is not allowed, with its JSON pointer.
    InputError
        Sides that cannot be mapped: unpaired rows, too few rows, a rank or a number of anchors above what the rows allow.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    >>> turned = rows @ np.linalg.qr(rows.T @ rows)[0]
    >>> found = fit_map(rows, turned, map="procrustes")
    >>> found.card.evaluation.forward.recall[1].value, found.apply(rows[:3]).shape
    (1.0, (3, 8))
    """
    chosen = read_options(MapOptions, fit_map, options, locals())
    side_a = with_columns(open_source(a, "a"), ids[0], groups[0], "a")
    side_b = with_columns(open_source(b, "b"), ids[1], groups[1], "b")
    return fit_sources(chosen, side_a, side_b, report, models=models)


def fit_sources(
    options: MapOptions,
    a: SideSource,
    b: SideSource,
    report: Report,
    *,
    models: ModelNames = (None, None),
    executor: Executor = LOCAL_EXECUTOR,
) -> Map:
    """Fit a map of two opened sides."""
    stopwatch = Stopwatch()
    with stopwatch.time("pairing"):
        (a, b), paired = _pair(options, a, b)
        sides = [describe_side(side, model) for side, model in zip((a, b), models, strict=True)]
        split = TrainTestSplit(paired.a.layers[0], paired.b.layers[0], options, paired.groups)
        check_choice(options.map, len(split.train_rows), split.a.dim, split.b.dim, "training rows")
    with stopwatch.time("sums"):
        sums = compute_sums(split, report, executor)
    with stopwatch.time("fit_map"):
        transform, fitted = fit_transform(options.map, split, sums, report)
    with stopwatch.time("evaluation"):
        results = _evaluate(split, sums, transform, report)
    card = MapDocument(
        map=options.map,
        preparation=options.preparation,
        a=sides[0],
        b=sides[1],
        n=split.n,
        n_train=len(split.train_rows),
        n_test=split.n - len(split.train_rows),
        pairing=paired.record,
        fitted=fitted,
        **results,
        level=options.level,
        seed=options.seed,
        digest=tensors_digest(_name_tensors(transform)),
        metadata=options.metadata,
        warnings=(*fit_warnings(split), *_duplicate_warnings(paired)),
        versions=find_versions() | ({"torch": version("torch")} if options.map.kind == "mlp" else {}),
        timings_s=stopwatch.rounded(),
    )
    return Map(card, transform)


class _HeldOutResults(TypedDict):
    """Fields of a card that the held-out rows fill."""

    evaluation: Evaluation
    best_linear: BestLinearMap
    chance: ChanceLevel


def _evaluate(split: TrainTestSplit, sums: TrainingSums, transform: Transform, report: Report) -> _HeldOutResults:
    """Evaluate the map and the best linear map in one pass over the held-out rows."""
    best = best_linear(sums)
    linear, fitted = fit_linear(best, split, sums)
    rows = split.held_out_rows()
    (own, other), baseline = evaluate_maps(
        [transform, linear], rows, sums.total.means[1], report=lambda done, n: report("evaluation", done, n)
    )
    return {
        "evaluation": describe_evaluation(own, rows.candidate_counts, split.options),
        "best_linear": BestLinearMap(
            kind=best.kind,
            penalty=fitted.penalty,
            evaluation=describe_evaluation(other, rows.candidate_counts, split.options),
        ),
        "chance": describe_chance(baseline, rows.candidate_counts, split.options),
    }


def _pair(options: MapOptions, a: SideSource, b: SideSource) -> tuple[tuple[SideSource, SideSource], PairedSides]:
    """Select the mapped layer of each side and pair the rows: the sides before and after pairing.

    Raises
    ------
    UnpairedSides, UnknownLayer, InvalidRequest
    """
    if options.pairing == "row":
        check_pairing(a.n, b.n)
    sides = (
        replace(a, layers=[pick_layer(a, options.layers.a, "a")]),
        replace(b, layers=[pick_layer(b, options.layers.b, "b")]),
    )
    return sides, pair(*sides, options.pairing, FreshGraphs().fact)


def pick_layer(source: SideSource, name: str, side: str | None) -> RawLayer:
    """Return the layer with a name, or the last one.

    Raises
    ------
    UnknownLayer
    """
    names = [layer.name for layer in source.layers]
    return source.layers[names.index(choose_layer(name, names, side))]


def describe_side(source: SideSource, model: str | None) -> MapSide:
    """Describe one side, with its one layer, for the card."""
    (layer,) = source.layers
    digest = layer.digest if source.id is not None else find_layer_digest(layer)
    return MapSide(id=source.id, name=source.name, layer=layer.name, dim=layer.dim, digest=digest, model=model)


def find_layer_digest(layer: RawLayer) -> str:
    """Compute the digest that the store gives to a layer: SHA-256 of its dtype, shape and values."""
    dtype = stored_dtype(layer.rows(0, 1).dtype)
    found = start_hash(layer.n, layer.dim, dtype)
    for block in raw_blocks(layer):
        found.update(np.ascontiguousarray(block, NUMPY_DTYPES[dtype]).view(np.uint8).data)
    return found.hexdigest()


def _duplicate_warnings(paired: PairedSides) -> tuple[str, ...]:
    """Warn of duplicate rows: one copy can be a training row and another a test row."""
    counts = (("a", paired.record.duplicates_a), ("b", paired.record.duplicates_b))
    return tuple(
        f"{count} of {paired.record.matched} rows of {side} equal an earlier row, so some test rows may equal a training row. "
        "Give duplicates the same group."
        for side, count in counts
        if count and paired.groups is None
    )
