"""Metrics that fit directions, linear maps or rotations between the two spaces."""

from typing import Annotated, Literal

from pydantic import Field

from consilience.contract.metric import Metric, PairDirection

COST = "O(n (p + q)^2 + p^3 + q^3) a layer, O(n p q + p^2 q) a pair"


class CcaMean(Metric):
    """Mean canonical correlation."""

    title = "Mean canonical correlation"
    summary = "Mean correlation of the canonical pairs of directions of the two spaces."
    formula = "(1/r) sum_i rho_i, rho the singular values of U_A' U_B, r = min(rank A, rank B)"
    chance = "estimated by permutation; near 1 if d is near n"
    cost = COST
    work = "fit"
    reference = "Raghu et al. 2017, SVCCA, arXiv 1706.05806; Kornblith et al. 2019, arXiv 1905.00414, table 1"

    metric: Literal["cca_mean"] = "cca_mean"


class CcaR2(Metric):
    """Mean squared canonical correlation."""

    title = "Mean squared canonical correlation"
    summary = "Mean squared correlation of the canonical pairs of directions of the two spaces."
    formula = "(1/r) sum_i rho_i^2 = tr(P_A P_B) / r"
    chance = "max(rank A, rank B) / (n - 1)"
    nulls = ("analytic", "permutation")
    cost = COST
    work = "fit"
    reference = "Kornblith et al. 2019, arXiv 1905.00414, table 1, R^2_CCA"

    metric: Literal["cca_r2"] = "cca_r2"


class Svcca(Metric):
    """Mean canonical correlation of the leading principal components."""

    title = "Singular vector canonical correlation"
    summary = "Mean canonical correlation of the leading principal components of the two spaces."
    formula = "mean singular value of U_A,r' U_B,r, U the leading left singular vectors"
    rotation_invariant = False
    cost = COST
    work = "fit"
    reference = "Raghu et al. 2017, arXiv 1706.05806; exact, unlike the randomised reference implementation"

    metric: Literal["svcca"] = "svcca"
    components: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=10,
        description="Number of principal components to keep; null keeps as many as explain the share `variance`.",
    )
    variance: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        default=0.99, description="Share of the variance to explain, used if `components` is null."
    )
    scaling: Literal["zscore", "centre"] = Field(
        default="zscore",
        description="Scaling of the columns: `zscore` scales each to variance 1, as platonic-rep does; `centre` only "
        "subtracts the mean.",
    )

    @property
    def is_rotation_invariant(self) -> bool:
        """True if rotating one side keeps the value; not if columns are scaled."""
        return self.scaling == "centre"


class Pwcca(Metric):
    """Canonical correlations weighted by the variance of side a that they explain."""

    title = "Projection-weighted canonical correlation"
    summary = "Mean of the canonical correlations, weighted by the variance of the first space that they explain."
    formula = "sum_i w_i rho_i, w_i proportional to sum_j |<h_i, x_j>|, h the canonical variates of a"
    symmetric = False
    rotation_invariant = False
    cost = COST
    work = "fit"
    reference = "Morcos et al. 2018, arXiv 1806.05759, eq. 4"

    metric: Literal["pwcca"] = "pwcca"


class EigenspaceOverlap(Metric):
    """Overlap of the two column spaces."""

    title = "Eigenspace overlap"
    summary = "Share of the larger of the two column spaces (not centred) that the other one covers."
    formula = "|U_A' U_B|^2 / max(rank A, rank B)"
    chance = "[ab + (p - a)(q - b) / (n - 1)] / max(p, q), a = |U_A' 1|^2 / n, b = |U_B' 1|^2 / n"
    nulls = ("permutation", "analytic")
    cost = COST
    work = "fit"
    reference = "May et al. 2019, On the Downstream Performance of Compressed Word Embeddings, arXiv 1909.01264, def. 2"

    metric: Literal["eigenspace_overlap"] = "eigenspace_overlap"


class LinearPredictivity(Metric):
    """Share of variance that a cross-validated ridge regression predicts."""

    title = "Linear predictivity"
    summary = "Share of the variance of one space that ridge regression from the other predicts on held-out items."
    formula = "1 - sum |y - f(x)|^2 / sum |y - mean(y)|^2 over held-out folds; ab: from a to b"
    symmetric = False
    low = None
    chance = "at or below 0"
    work = "fit"
    cost = "O(folds (n p^2 + p^3)) a layer, O(folds n p q) a pair and a draw"
    reference = "Kornblith et al. 2019, arXiv 1905.00414, R^2_LR, cross-validated as in Schrimpf et al. 2018"

    metric: Literal["linear_predictivity"] = "linear_predictivity"
    direction: PairDirection = Field(
        default="ab", description="Direction of prediction: `ab` from a to b, `ba` from b to a, or the `mean` of both."
    )
    folds: Annotated[int, Field(ge=2, le=20)] = Field(default=5, description="Number of cross-validation folds.")
    ridge: Literal["auto"] | Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = Field(
        default="auto",
        description="Penalty in units of the mean variance; `auto` chooses the best of 13 values by generalised "
        "cross-validation.",
    )

    @property
    def is_symmetric(self) -> bool:
        """True if swapping the sides keeps the value; only for the mean of both directions."""
        return self.direction == "mean"


class ProcrustesSimilarity(Metric):
    """Normalised Procrustes similarity."""

    title = "Procrustes similarity"
    summary = "Cosine of the two spaces after the best rotation; also called normalised Bures similarity."
    formula = "|Xc' Yc|_* / (|Xc| |Yc|), _* the nuclear norm"
    cost = COST
    work = "fit"
    reference = "Harvey et al. 2024, arXiv 2312.03045; Ding et al. 2021, arXiv 2108.01661"

    metric: Literal["procrustes"] = "procrustes"


class AngularShape(Metric):
    """Angle between the two spaces after the best rotation and partial whitening."""

    title = "Angular shape distance"
    summary = "Angle between the two spaces after the best rotation; a distance that obeys the triangle inequality."
    formula = "arccos |Z_A' Z_B|_*, Z = Xc (alpha I + (1 - alpha) (Xc' Xc)^(-1/2)) scaled to norm 1; in radians"
    score_direction = "distance"
    triangle = True
    high = 1.5707963267948966
    cost = COST
    work = "fit"
    reference = "Williams et al. 2021, Generalized Shape Metrics, arXiv 2110.14739, eq. 7 and 11"

    metric: Literal["angular_shape"] = "angular_shape"
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        default=1.0,
        description="Amount of whitening: 1 applies none (rotations only), 0 whitens fully, as in canonical correlation.",
    )


class Bures(Metric):
    """Bures distance of the two centred linear kernels, each scaled to trace 1."""

    title = "Bures distance"
    summary = "Distance between the two spaces, scaled to the same size, after the best rotation."
    formula = "sqrt(2 - 2 |Xc' Yc|_* / (|Xc| |Yc|))"
    score_direction = "distance"
    triangle = True
    high = 1.4142135623730951
    cost = COST
    work = "fit"
    reference = "Harvey et al. 2024, arXiv 2312.03045; Bures 1969"

    metric: Literal["bures"] = "bures"


class Gulp(Metric):
    """Distance between the predictions of ridge regressions on the two spaces."""

    title = "GULP distance"
    summary = "Largest mean difference between ridge predictions from the two spaces, over all targets of unit norm."
    formula = "sqrt(T_AA + T_BB - 2 T_AB), T_AB = tr((S_A + l I)^-1 S_AB (S_B + l I)^-1 S_BA)"
    score_direction = "distance"
    triangle = True
    high = None
    cost = COST
    work = "fit"
    reference = "Boix-Adsera et al. 2022, GULP, arXiv 2210.06545, eq. 6"

    metric: Literal["gulp"] = "gulp"
    ridge: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        default=0.01, description="Penalty l for rows that are scaled to a mean square of 1."
    )
