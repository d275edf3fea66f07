"""Fitting of maps: the train and test split of two paired layers, and the fit of each kind of map on the training rows."""

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
from consilience.metrics.comparison import Report
from consilience.metrics.sides import VALUE_MAX
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
from consilience.numerics.rows.parallel import Executor
from consilience.numerics.rows.prepared import PreparedRows
from consilience.numerics.rows.sources import RawLayer, SelectedLayer
from consilience.numerics.stats.intervals import assign_folds

#: Smallest numbers of training and of test rows, or of groups if there are groups.
TRAIN_MIN, TEST_MIN = 4, 2
#: Streams of the seed: draws for one purpose are independent of draws for another.
_FOLD_STREAM, _QUERY_STREAM, _ANCHOR_STREAM, _VALIDATION_STREAM = 1, 2, 3, 4
#: Share of the training rows whose error decides when training stops.
VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class TrainTestSplit:
    """Two paired layers, with some of their items held out for testing.

    Attributes
    ----------
    a, b : layers over the same items
    options : options of the map
    groups : group number of each item; None if there are no groups
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
    def is_test(self) -> npt.NDArray[np.bool_]:
        """Mask of the items that are held out for testing: shape (n,)."""
        is_test = draw_held_out(self.n, self.options.test_share, self.options.seed, self.groups)
        train, test = self._count_units(~is_test), self._count_units(is_test)
        if train < TRAIN_MIN or test < TEST_MIN:
            raise TooFewRows(
                f"The split leaves {train} rows or groups to train on and {test} to test on; "
                f"it needs at least {TRAIN_MIN} and {TEST_MIN}.",
                value=f"{train} and {test}",
                limit=f"{TRAIN_MIN} and {TEST_MIN}",
                hint="Use more items; all rows of one group are on the same side of the split.",
            )
        return is_test

    @property
    def largest_group(self) -> int:
        """Number of items of the largest group; 1 if there are no groups."""
        return 1 if self.groups is None else int(np.bincount(self.groups).max())

    def _count_units(self, mask: npt.NDArray[np.bool_]) -> int:
        return int(mask.sum()) if self.groups is None else len(np.unique(self.groups[mask]))

    @cached_property
    def train_rows(self) -> npt.NDArray[np.intp]:
        """Row numbers of the training items, ascending."""
        return np.flatnonzero(~self.is_test)

    @cached_property
    def rows(self) -> tuple[PreparedRows, PreparedRows]:
        """Prepared rows of a and of b: of all items."""
        normalise = self.options.preparation == "l2"
        return PreparedRows(self.a, normalise=normalise), PreparedRows(self.b, normalise=normalise)

    def train_folds(self) -> IdArray:
        """Return the cross-validation fold of each training item, `HELD_OUT` for test items: shape (n,).

        A group lies in one fold.
        """
        folds = np.full(self.n, HELD_OUT, np.int32)
        order = np.random.default_rng([self.options.seed, _FOLD_STREAM]).permutation(len(self.train_rows))
        groups = None if self.groups is None else self.groups[self.train_rows]
        units = self._count_units(~self.is_test)
        folds[self.train_rows] = assign_folds(order, min(FOLDS, units), groups)
        return folds

    def train_and_validation_rows(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Split the training rows: rows that set the weights, and a tenth whose error decides when to stop."""
        groups = None if self.groups is None else self.groups[self.train_rows]
        seed = int(np.random.default_rng([self.options.seed, _VALIDATION_STREAM]).integers(2**63))
        is_validation = draw_held_out(len(self.train_rows), VALIDATION_SHARE, seed, groups)
        return self.train_rows[~is_validation], self.train_rows[is_validation]

    def held_out_rows(self) -> HeldOutRows:
        """Return the held-out rows and the sample of them that are queries."""
        held = np.flatnonzero(self.is_test)
        normalise = self.options.preparation == "l2"
        a, b = (PreparedRows(SelectedLayer(layer, held), normalise=normalise) for layer in (self.a, self.b))
        groups = None if self.groups is None else self.groups[held]
        rng = np.random.default_rng([self.options.seed, _QUERY_STREAM])
        queries = np.sort(rng.permutation(len(held))[: self.options.max_queries]).astype(np.int32)
        return HeldOutRows(a, b, queries, groups)

    def draw_anchors(self, count: int) -> npt.NDArray[np.intp]:
        """Sample training items as anchors: row numbers, ascending."""
        rng = np.random.default_rng([self.options.seed, _ANCHOR_STREAM])
        return np.sort(rng.permutation(self.train_rows)[:count])


@dataclass(frozen=True)
class TrainingSums:
    """Sums over the training rows, on which linear maps are fitted."""

    folds: Sequence[MapSums]

    @cached_property
    def total(self) -> MapSums:
        """Sums over all training rows."""
        return add_sums(self.folds)

    @cached_property
    def choice(self) -> FoldChoice:
        """Penalty and kind of linear map that cross-validation over the folds chooses."""
        return choose_map(self.folds)

    @cached_property
    def path(self) -> RidgePath:
        """Ridge regressions on all training rows, for any penalty."""
        return RidgePath(self.total)


def compute_sums(split: TrainTestSplit, report: Report, executor: Executor) -> TrainingSums:
    """Compute the sums of linear maps in one pass over the training rows.

    Raises
    ------
    NonFiniteValues
        Values whose squares exceed float32; only rows that are not scaled can have them.
    """
    folds = find_fold_sums(
        *split.rows, split.train_folds(), executor=executor, progress=lambda done, n: report("sums", done, n)
    )
    sums = TrainingSums(folds)
    largest = max(float(np.trace(sums.total.xx)), sums.total.yy) ** 0.5
    if not largest < VALUE_MAX:
        raise NonFiniteValues(
            "The values are too large to be mapped without scaling.",
            value=f"{largest:.3g}",
            limit=VALUE_MAX,
            hint="Use the preparation l2, which scales rows to length 1.",
        )
    return sums


def fit_transform(
    choice: MapChoice, split: TrainTestSplit, sums: TrainingSums, report: Report
) -> tuple[Transform, FitSummary]:
    """Fit a map of any kind.

    `planning.maps.check_choice` has checked that the rank and the number of anchors are possible.

    Raises
    ------
    InvalidRequest
        Training diverged.
    """
    return _train_mlp(choice, split, sums, report) if isinstance(choice, MlpMap) else fit_linear(choice, split, sums)


def _train_mlp(
    choice: MlpMap, split: TrainTestSplit, sums: TrainingSums, report: Report
) -> tuple[Transform, FitSummary]:
    from consilience.numerics.regression import mlp  # noqa: PLC0415 - torch takes a second, and other maps need none

    total, (a, b) = sums.total, split.rows
    spread = total.about(total.means)
    scales = (
        mlp.find_scale(total.means[0], float(np.trace(spread.xx)), total.n),
        mlp.find_scale(total.means[1], spread.yy, total.n),
    )
    training = mlp.TrainingOptions(
        choice.hidden or b.dim, choice.epochs, choice.patience, choice.batch, choice.learning_rate, split.options.seed
    )
    pairs = mlp.TrainingPairs(a, b, scales, *split.train_and_validation_rows())
    found = mlp.train_mlp(pairs, training, lambda done, n: report("epochs", done, n))
    return found.transform, FitSummary(epochs=found.epoch, epochs_run=found.epochs_run, loss=found.loss)


def fit_linear(choice: LinearChoice, split: TrainTestSplit, sums: TrainingSums) -> tuple[Transform, FitSummary]:
    """Fit a map of any kind except an MLP."""
    if isinstance(choice, ProcrustesMap):
        rotation = fit_procrustes(sums.total, scale=choice.scale, translation=choice.translation)
        return _single(rotation.affine), FitSummary(scale=rotation.scale)
    if isinstance(choice, RelativeMap):
        anchors = split.draw_anchors(choice.anchors)
        found = fit_relative(sums.total, *(rows.take(anchors) for rows in split.rows))
        return found.factors.transform(), FitSummary(penalty=found.penalty, scale=found.scale)
    penalty = sums.choice.penalty if choice.penalty == "auto" else choice.penalty
    if isinstance(choice, RidgeMap):
        return _single(sums.path.fit(penalty)), FitSummary(penalty=penalty)
    return reduce_rank(sums.path, sums.total, penalty, choice.rank).transform(), FitSummary(penalty=penalty)


def best_linear(sums: TrainingSums) -> ProcrustesMap | RidgeMap:
    """Return the kind of linear map with the smallest cross-validation error, with its penalty."""
    return ProcrustesMap() if sums.choice.best == "procrustes" else RidgeMap(penalty=sums.choice.penalty)


def _single(affine: Affine) -> Transform:
    return Transform((affine.step(),))


def fit_warnings(split: TrainTestSplit) -> tuple[str, ...]:
    """Warn if there are fewer training rows than dimensions."""
    train, dim = len(split.train_rows), max(split.a.dim, split.b.dim)
    if train > dim:
        return ()
    choice = split.options.map
    is_chosen = getattr(choice, "penalty", None) == "auto"
    advice = (
        "The penalty is chosen by cross-validation."
        if is_chosen
        else "A `ridge` map with its penalty chosen by cross-validation is safer."
    )
    return (
        f"There are {train} training rows, fewer than the {dim} dimensions, so the rows do not determine the map. {advice}",
    )
