"""Metrics that compare the n x n matrices of similarities or distances of the two spaces."""

from typing import Annotated, Any, Literal

from pydantic import Field

from consilience.contract.metric import Metric, NeighbourMetric

Sigma = Literal["median"] | Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
KERNEL_COST = "O(n p q) a pair of layers, O(p q) memory; rbf: O(n^2 (p + q)) time, blocks of rows in memory"


class Cka(Metric):
    """Centred kernel alignment of the two spaces."""

    title = "Centred kernel alignment"
    summary = "Cosine of the centred similarity matrices of the two spaces; debiased by default."
    formula = (
        "HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)); debiased: with the unbiased HSIC; rbf: exp(-|x - x'|^2 / 2 sigma^2)"
    )
    low = -1.0
    chance = "0 (debiased); sqrt(b_x b_y) / (n - 1) with b = tr(K)^2 / tr(K^2) of the centred kernel (biased)"
    nulls = ("analytic", "permutation")
    cost = KERNEL_COST
    reference = (
        "Kornblith et al. 2019, arXiv 1905.00414, eq. 4; debiased HSIC: Song et al. 2012, JMLR 13:1393-1434, eq. 5"
    )

    metric: Literal["cka"] = "cka"
    kernel: Literal["linear", "rbf"] = Field(default="linear", description="Kernel: `linear`, or `rbf` (Gaussian).")
    debiased: bool = Field(
        default=True,
        description="Whether to use the unbiased HSIC of Song et al., whose expected value at chance is 0.",
    )
    definition: Literal["standard", "prh"] = Field(
        default="standard",
        description="Definition: `prh` adds 1e-6 to the denominator, as the reference implementation of the Platonic "
        "Representation Hypothesis does.",
    )
    sigma: Sigma = Field(
        default="median",
        description="Width of the rbf kernel: a number, or `median` for the median distance between two different rows "
        "(over all pairs of at most 2048 rows, sampled with the seed).",
    )

    @property
    def work_kind(self) -> str:
        """Kind of work; the rbf kernel needs every pair of rows."""
        return "pairs" if self.kernel == "rbf" else self.work

    def options(self) -> dict[str, Any]:
        """Return the options, without the width for a kernel that has none."""
        options = super().options()
        return options if self.kernel == "rbf" else {name: v for name, v in options.items() if name != "sigma"}


class Rv(Metric):
    """RV coefficient: the older name of biased CKA with linear kernels."""

    title = "RV coefficient"
    summary = "Cosine of the two centred linear kernels; equal to biased linear CKA."
    formula = "tr(Kc Lc) / sqrt(tr(Kc^2) tr(Lc^2))"
    chance = "sqrt(b_x b_y) / (n - 1) with b = tr(K)^2 / tr(K^2) of the centred kernel"
    nulls = ("analytic", "permutation")
    cost = KERNEL_COST
    reference = "Robert and Escoufier 1976; null: Josse, Pages and Husson 2008"

    metric: Literal["rv"] = "rv"


class AngularCka(Metric):
    """Angle between the two centred linear kernels."""

    title = "Angular CKA"
    summary = "Angle whose cosine is biased linear CKA; a distance that obeys the triangle inequality."
    formula = "arccos(CKA), in radians"
    score_direction = "distance"
    triangle = True
    high = 1.5707963267948966
    chance = "arccos of the value of the RV coefficient at chance"
    nulls = ("analytic", "permutation")
    cost = KERNEL_COST
    reference = "Williams et al. 2021, Generalized Shape Metrics, arXiv 2110.14739, section 2"

    metric: Literal["angular_cka"] = "angular_cka"


class DistanceCorrelation(Metric):
    """Correlation of the two centred matrices of Euclidean distances."""

    title = "Distance correlation"
    summary = "Cosine of the centred distance matrices of the two spaces; bias-corrected by default."
    formula = "bias-corrected: U-centred D_A . D_B / (|D_A| |D_B|); biased: sqrt of the double-centred cosine"
    low = -1.0
    chance = "0 (bias-corrected)"
    nulls = ("analytic", "permutation")
    work = "pairs"
    cost = "O(n^2 (p + q)) a pair of layers, blocks of rows in memory"
    reference = "Szekely and Rizzo 2014, Annals of Statistics 42:2382-2412; biased: Szekely et al. 2007"

    metric: Literal["distance_correlation"] = "distance_correlation"
    bias_corrected: bool = Field(
        default=True,
        description="Whether to use the bias-corrected U-statistic, whose expected value at chance is 0. No square root "
        "is taken.",
    )


class Cknna(NeighbourMetric):
    """Kernel alignment restricted to mutual nearest neighbours."""

    title = "Centred kernel nearest-neighbour alignment"
    summary = "Kernel alignment over the pairs of items that are neighbours in both spaces."
    formula = "sim(K, L) / sqrt(sim(K, K) sim(L, L)), sim over alpha_ij = 1[j in N_A(i) and j in N_B(i)]"
    symmetric = False
    low = None
    high = None
    returns = True
    rotation_invariant = True
    reference = "Huh et al. 2024, The Platonic Representation Hypothesis, arXiv 2405.07987, appendix A, eq. 14"

    metric: Literal["cknna"] = "cknna"
    variant: Literal["prh", "paper", "biased"] = Field(
        default="prh",
        description="Variant: `prh` uses the unbiased HSIC of the masked kernels and adds 1e-6, as the reference "
        "implementation does; `paper` centres the kernels by their row means, as the article defines it; "
        "`biased` uses the biased HSIC of the masked kernels, in which an item can be its own neighbour "
        "(unbiased=False in the reference implementation).",
    )

    @property
    def is_symmetric(self) -> bool:
        """True if swapping the sides keeps the value; `prh` sums columns of one masked kernel and rows of the other."""
        return self.variant != "prh"


class Rsa(Metric):
    """Correlation of the two matrices of dissimilarities."""

    title = "Representational similarity analysis"
    summary = "Correlation, over pairs of items, of the distances in the two spaces."
    formula = "corr(d_A(i, j), d_B(i, j)) over i < j; spearman: of their ranks"
    low = -1.0
    chance = "0"
    rotation_invariant = False
    nulls = ("analytic", "permutation")
    work = "pairs"
    cost = "O(n^2 (p + q)) with all pairs; O(pairs (p + q)) with sampled ones"
    reference = "Kriegeskorte et al. 2008, Frontiers in Systems Neuroscience 2:4; null: Mantel 1967"

    metric: Literal["rsa"] = "rsa"
    method: Literal["spearman", "pearson"] = Field(
        default="spearman", description="Correlation coefficient: `spearman` or `pearson`."
    )
    distance: Literal["cosine", "euclidean", "correlation"] = Field(
        default="correlation",
        description="Dissimilarity of two rows: `cosine`, `euclidean`, or `correlation` (1 minus the Pearson "
        "correlation).",
    )
    pairs: Literal["auto", "all"] | Annotated[int, Field(ge=1000, le=100_000_000)] = Field(
        default="auto",
        description="Pairs of items to use: `all` (up to n = 8192), a minimum number of pairs, or `auto` (all up to n = "
        "4096, otherwise 4 million). If pairs are sampled, items are split into groups with the seed, and all "
        "pairs within a group are used.",
    )

    @property
    def is_rotation_invariant(self) -> bool:
        """True if rotating one side keeps the value; correlations of rows depend on their means over the columns."""
        return self.distance != "correlation"
