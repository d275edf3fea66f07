"""Each metric of fitted directions, as a recipe: how a layer is weighed, what two layers have in common."""

from functools import partial

from consilience.contract.subspace_metrics import (
    AngularShape,
    Bures,
    CcaMean,
    CcaR2,
    EigenspaceOverlap,
    Gulp,
    Procrustes,
    Pwcca,
    Svcca,
)
from consilience.measures.comparison import Comparison
from consilience.measures.fitting import measure_fit
from consilience.measures.measurement import Measurement
from consilience.measures.recipe import Recipe
from consilience.numerics import canonical, held_out, shapes
from consilience.numerics.spectra import weigh


def measure_cca_mean(metric: CcaMean, comparison: Comparison) -> Measurement:
    """Measure the mean canonical correlation of every layer pair."""
    return measure_fit(
        metric, Recipe("white", weigh, canonical.cca_mean, held_out.held_out_cca_mean, spare=1), comparison
    )


def measure_cca_r2(metric: CcaR2, comparison: Comparison) -> Measurement:
    """Measure the mean squared canonical correlation of every layer pair."""
    recipe = Recipe("white", weigh, canonical.cca_r2, held_out.held_out_cca_r2, canonical.cca_r2_law, spare=1)
    return measure_fit(metric, recipe, comparison)


def measure_svcca(metric: Svcca, comparison: Comparison) -> Measurement:
    """Measure the mean canonical correlation of the leading components of every layer pair."""
    recipe = Recipe(
        f"leading {metric.components} {metric.variance} {metric.scaling}",
        partial(canonical.leading, components=metric.components, variance=metric.variance),
        canonical.cca_mean,
        held_out.held_out_cca_mean,
        zscore=metric.scaling == "zscore",
        leading=metric.components,
        spare=1,
    )
    return measure_fit(metric, recipe, comparison)


def measure_pwcca(metric: Pwcca, comparison: Comparison) -> Measurement:
    """Measure the projection-weighted canonical correlation of every layer pair."""
    return measure_fit(metric, Recipe("white", weigh, canonical.pwcca, held_out.held_out_pwcca, spare=1), comparison)


def measure_eigenspace_overlap(metric: EigenspaceOverlap, comparison: Comparison) -> Measurement:
    """Measure the overlap of the column spaces of every layer pair."""
    value, law = canonical.eigenspace_overlap, canonical.eigenspace_law
    return measure_fit(metric, Recipe("columns", weigh, value, None, law, centre=False, spare=0), comparison)


def measure_procrustes(metric: Procrustes, comparison: Comparison) -> Measurement:
    """Measure the cosine after the best rotation of every layer pair."""
    return measure_fit(metric, Recipe("shape 1.0", _rotated, shapes.procrustes, held_out.held_out_cosine), comparison)


def measure_angular_shape(metric: AngularShape, comparison: Comparison) -> Measurement:
    """Measure the angle after the best rotation of every layer pair."""
    recipe = Recipe(
        f"shape {metric.alpha}",
        partial(shapes.unit_shape, alpha=metric.alpha),
        shapes.angular_shape,
        held_out.held_out_angle,
        spare=1 if metric.alpha == 0 else None,
    )
    return measure_fit(metric, recipe, comparison)


def measure_bures(metric: Bures, comparison: Comparison) -> Measurement:
    """Measure the distance after the best rotation of every layer pair."""
    return measure_fit(metric, Recipe("shape 1.0", _rotated, shapes.bures, held_out.held_out_bures), comparison)


def measure_gulp(metric: Gulp, comparison: Comparison) -> Measurement:
    """Measure the distance of ridge predictions of every layer pair."""
    recipe = Recipe(
        f"ridge {metric.ridge}",
        partial(shapes.ridge_shape, ridge=metric.ridge),
        shapes.gulp,
        None,
        spare=1 if metric.ridge == 0 else None,
    )
    return measure_fit(metric, recipe, comparison)


_rotated = partial(shapes.unit_shape, alpha=1.0)
