"""From two paired layers and the choice of a map to the map: which rows train, and what each kind takes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from consilience.contract.maps import (
    FitSummary,
    LinearChoice,
    MapChoice,
    MapOptions,
    MlpMap,
    ProcrustesMap,
    RelativeMap,
    RidgeMap,
)
from consilience.errors import NonFiniteValues, TooFewRows
from consilience.limits import FOLDS
from consilience.metrics.comparison import VALUE_MAX, Report
from consilience.numerics.regression.evaluation import HeldOutRows, draw_held_out
from consilience.numerics.regression.map_fits import (
    FoldChoice,
    RidgePath,
    choose_map,
    fit_procrustes,
    fit_relative,
    reduce_rank,
)
from consilience.numerics.regression.maps import HELD_OUT, Affine, MapSums, Transform, add_sums, find_fold_sums
from consilience.numerics.rows.arrays import IdArray
from consilience.numerics.rows.parallel import Parts
from consilience.numerics.rows.prepared import PreparedRows
from consilience.numerics.rows.sources import RawLayer, SelectedLayer
from consilience.numerics.stats.intervals import assign_folds

#: Rows, or groups of them, that a fit and its judgement need.
TRAIN_MIN, TEST_MIN = 4, 2
#: Streams of a seed: what it draws for one purpose says nothing of the others.
_FOLD_STREAM, _QUERY_STREAM, _ANCHOR_STREAM, _VALIDATION_STREAM = 1, 2, 3, 4
#: Share of the training rows that says when training stops.
VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class TrainTestSplit:
    """Two layers over the same items, and which items are held out.

    Attributes
    ----------
    a, b : the layers, paired
    options : of the map
    groups : the group number of each item; None where every one stands alone
    """

    a: RawLayer
    b: RawLayer
    options: MapOptions
    groups: IdArray | None

    @property
    def n(self) -> int:
        """Number of items."""
        return self.a.n

    @cached_property
    def held(self) -> npt.NDArray[np.bool_]:
        """Which items are held out: shape (n,)."""
        held = draw_held_out(self.n, self.options.test_share, self.options.seed, self.groups)
        train, test = self._count_units(~held), self._count_units(held)
        if train < TRAIN_MIN or test < TEST_MIN:
            raise TooFewRows(
                f"{train} rows or groups are left to train on and {test} to judge by.",
                value=f"{train} and {test}",
                limit=f"{TRAIN_MIN} and {TEST_MIN}",
                hint="Map more items; groups are never split.",
            )
        return held

    @property
    def largest_group(self) -> int:
        """Items of the largest group; 1 where every one stands alone."""
        return 1 if self.groups is None else int(np.bincount(self.groups).max())

    def _count_units(self, mask: npt.NDArray[np.bool_]) -> int:
        return int(mask.sum()) if self.groups is None else len(np.unique(self.groups[mask]))

    @cached_property
    def trained(self) -> npt.NDArray[np.intp]:
        """The items trained on, ascending."""
        return np.flatnonzero(~self.held)

    @cached_property
    def rows(self) -> tuple[PreparedRows, PreparedRows]:
        """The prepared rows of a and of b, all of them."""
        normalise = self.options.preparation == "l2"
        return PreparedRows(self.a, normalise=normalise), PreparedRows(self.b, normalise=normalise)

    def deal(self) -> IdArray:
        """The fold of each training item, whole groups together; `HELD_OUT` for the others: shape (n,)."""
        dealt = np.full(self.n, HELD_OUT, np.int32)
        order = np.random.default_rng([self.options.seed, _FOLD_STREAM]).permutation(len(self.trained))
        groups = None if self.groups is None else self.groups[self.trained]
        units = self._count_units(~self.held)
        dealt[self.trained] = assign_folds(order, min(FOLDS, units), groups)
        return dealt

    def watch(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The items trained on in two parts: those that weights are stepped by, and a tenth that says when to stop."""
        groups = None if self.groups is None else self.groups[self.trained]
        seed = int(np.random.default_rng([self.options.seed, _VALIDATION_STREAM]).integers(2**63))
        watched = draw_held_out(len(self.trained), VALIDATION_SHARE, seed, groups)
        return self.trained[~watched], self.trained[watched]

    def held_out(self) -> HeldOutRows:
        """The held-out items, and which of them ask."""
        held = np.flatnonzero(self.held)
        normalise = self.options.preparation == "l2"
        a, b = (PreparedRows(SelectedLayer(layer, held), normalise=normalise) for layer in (self.a, self.b))
        groups = None if self.groups is None else self.groups[held]
        rng = np.random.default_rng([self.options.seed, _QUERY_STREAM])
        asking = np.sort(rng.permutation(len(held))[: self.options.max_queries]).astype(np.int32)
        return HeldOutRows(a, b, asking, groups)

    def draw_anchors(self, count: int) -> npt.NDArray[np.intp]:
        """Some of the items trained on, ascending."""
        rng = np.random.default_rng([self.options.seed, _ANCHOR_STREAM])
        return np.sort(rng.permutation(self.trained)[:count])


@dataclass(frozen=True)
class TrainingSums:
    """What linear maps are fitted on."""

    folds: Sequence[MapSums]

    @cached_property
    def total(self) -> MapSums:
        """Over all training items."""
        return add_sums(self.folds)

    @cached_property
    def choice(self) -> FoldChoice:
        """What cross-validation over the folds says."""
        return choose_map(self.folds)

    @cached_property
    def path(self) -> RidgePath:
        """Ridge regressions on all training items."""
        return RidgePath(self.total)


def compute_sums(ground: TrainTestSplit, report: Report, parts: Parts) -> TrainingSums:
    """Go over the training rows once.

    Raises
    ------
    NonFiniteValues
        Values so large that their squares leave float32, which only rows that are not scaled can hold.
    """
    folds = find_fold_sums(*ground.rows, ground.deal(), parts=parts, progress=lambda done, n: report("sums", done, n))
    sums = TrainingSums(folds)
    largest = max(float(np.trace(sums.total.xx)), sums.total.yy) ** 0.5
    if not largest < VALUE_MAX:
        raise NonFiniteValues(
            "The values are too large to be mapped as they are.",
            value=f"{largest:.3g}",
            limit=VALUE_MAX,
            hint="Use the preparation l2, which scales rows to length 1.",
        )
    return sums


def fit_transform(
    choice: MapChoice, ground: TrainTestSplit, sums: TrainingSums, report: Report
) -> tuple[Transform, FitSummary]:
    """Fit a map of any kind, whose rank or anchors the layers and the rows have: `planning.maps.check_choice` sees to it.

    Raises
    ------
    InvalidRequest
        Training diverged.
    """
    return _train_mlp(choice, ground, sums, report) if isinstance(choice, MlpMap) else fit_linear(choice, ground, sums)


def _train_mlp(
    choice: MlpMap, ground: TrainTestSplit, sums: TrainingSums, report: Report
) -> tuple[Transform, FitSummary]:
    from consilience.numerics.regression import mlp  # noqa: PLC0415 - torch takes a second, and other maps need none

    total, (a, b) = sums.total, ground.rows
    spread = total.about(total.means)
    scales = (
        mlp.find_scale(total.means[0], float(np.trace(spread.xx)), total.n),
        mlp.find_scale(total.means[1], spread.yy, total.n),
    )
    recipe = mlp.TrainingOptions(
        choice.hidden or b.dim, choice.epochs, choice.patience, choice.batch, choice.learning_rate, ground.options.seed
    )
    pairs = mlp.TrainingPairs(a, b, scales, *ground.watch())
    found = mlp.train_mlp(pairs, recipe, lambda done, n: report("epochs", done, n))
    return found.transform, FitSummary(epochs=found.epoch, epochs_run=found.epochs_run, loss=found.loss)


def fit_linear(choice: LinearChoice, ground: TrainTestSplit, sums: TrainingSums) -> tuple[Transform, FitSummary]:
    """Fit a map of any kind but the one that needs training."""
    if isinstance(choice, ProcrustesMap):
        rotation = fit_procrustes(sums.total, scale=choice.scale, translation=choice.translation)
        return _single(rotation.affine), FitSummary(scale=rotation.scale)
    if isinstance(choice, RelativeMap):
        anchors = ground.draw_anchors(choice.anchors)
        found = fit_relative(sums.total, *(rows.take(anchors) for rows in ground.rows))
        return found.factors.transform(), FitSummary(penalty=found.penalty, scale=found.scale)
    penalty = sums.choice.penalty if choice.penalty == "auto" else choice.penalty
    if isinstance(choice, RidgeMap):
        return _single(sums.path.fit(penalty)), FitSummary(penalty=penalty)
    return reduce_rank(sums.path, sums.total, penalty, choice.rank).transform(), FitSummary(penalty=penalty)


def best_linear(sums: TrainingSums) -> ProcrustesMap | RidgeMap:
    """The linear map that cross-validation likes best."""
    return ProcrustesMap() if sums.choice.best == "procrustes" else RidgeMap(penalty=sums.choice.penalty)


def _single(affine: Affine) -> Transform:
    return Transform((affine.step(),))


def fit_warnings(ground: TrainTestSplit) -> tuple[str, ...]:
    """What a reader should know of too few rows."""
    train, dim = len(ground.trained), max(ground.a.dim, ground.b.dim)
    if train > dim:
        return ()
    choice = ground.options.map
    chosen = "; the penalty is chosen by cross-validation" if getattr(choice, "penalty", None) == "auto" else ""
    advice = chosen or "; `ridge` with its penalty chosen by cross-validation is safer"
    return (f"{train} training rows are fewer than the {dim} dimensions: no map is determined by them{advice}.",)
