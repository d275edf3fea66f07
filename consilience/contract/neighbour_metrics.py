"""Metrics that compare the nearest neighbours of items in the two spaces."""

from typing import Literal

from pydantic import Field

from consilience.contract.metric import NeighbourMetric, PairDirection

RESI = "Klabunde et al. 2024, ReSi, arXiv 2408.00531, appendix A"
PRH = "Huh et al. 2024, The Platonic Representation Hypothesis, arXiv 2405.07987, appendix A"


class MutualKnn(NeighbourMetric):
    """Mean share of the k nearest neighbours of an item that are the same in both spaces."""

    title = "Mutual k-nearest neighbours"
    summary = "Mean share of the k nearest neighbours of an item that are the same in both spaces."
    formula = "(1/nk) sum_i |N_A(i) & N_B(i)|"
    chance = "k / (n - 1)"
    nulls = ("analytic", "permutation")
    reference = f"{PRH}, eq. 12"

    metric: Literal["mutual_knn"] = "mutual_knn"


class JaccardKnn(NeighbourMetric):
    """Mean Jaccard index of the two sets of neighbours."""

    title = "Jaccard k-nearest neighbours"
    summary = "Mean ratio of the shared neighbours of an item to its neighbours in either space."
    formula = "(1/n) sum_i |N_A(i) & N_B(i)| / |N_A(i) | N_B(i)|"
    chance = "about k / (2 (n - 1))"
    reference = RESI

    metric: Literal["jaccard_knn"] = "jaccard_knn"


class RankSimilarity(NeighbourMetric):
    """Agreement of the ranks of the shared neighbours."""

    title = "Rank similarity"
    summary = "Agreement of the ranks of shared neighbours, with more weight on early ranks; 0 if none is shared."
    formula = "(1/n) sum_i [sum_{j in N_A & N_B} 2 / ((1 + |r_A - r_B|)(r_A + r_B))] / H_{|N_A & N_B|}"
    chance = "estimated by permutation; falls with k / n"
    reference = f"{RESI}; Wang et al. 2022"

    metric: Literal["rank_similarity"] = "rank_similarity"


class LcsKnn(NeighbourMetric):
    """Longest common subsequence of the two ordered lists of neighbours."""

    title = "Longest common subsequence of neighbours"
    summary = "Mean length of the longest common subsequence of the two ordered lists of neighbours, divided by k."
    formula = "(1/nk) sum_i LCS(list_A(i), list_B(i)); raw: not divided by k"
    reference = f"{PRH}; the code does not divide by k"
    k_squared = True

    metric: Literal["lcs_knn"] = "lcs_knn"
    raw: bool = Field(
        default=False,
        description="Whether to return the mean length itself, as the reference implementation does, instead of dividing "
        "it by k.",
    )

    @property
    def ceiling(self) -> float | None:
        """Largest possible value: k if the length is not divided by k."""
        return float(self.k[0]) if self.raw else self.high


class EditDistanceKnn(NeighbourMetric):
    """One minus the normalised edit distance between the two ordered lists of neighbours."""

    title = "Edit distance of neighbours"
    summary = "One minus the mean number of edits between the two ordered lists of neighbours, divided by k."
    formula = "1 - (1/nk) sum_i Levenshtein(list_A(i), list_B(i))"
    reference = PRH
    k_squared = True

    metric: Literal["edit_distance_knn"] = "edit_distance_knn"


class SecondOrderCosine(NeighbourMetric):
    """Cosine similarity, between the two spaces, of an item's similarities to its neighbours in either space."""

    title = "Second-order cosine similarity"
    summary = (
        "Mean cosine similarity, between the two spaces, of an item's similarities to its neighbours in either space."
    )
    formula = "(1/n) sum_i cos(s_A(i, U_i), s_B(i, U_i)), U_i = N_A(i) | N_B(i), s the similarity (ReSi's code: 1 - s)"
    low = -1.0
    chance = "estimated by permutation; far above 0 if the mean of the rows is not 0"
    reference = f"{RESI}; Hamilton et al. 2016, arXiv 1606.02821, eq. 4"

    metric: Literal["second_order_cosine"] = "second_order_cosine"


class CycleKnn(NeighbourMetric):
    """Share of items that a step to a neighbour in one space and a step back in the other space can return to."""

    title = "Cycle k-nearest neighbours"
    summary = (
        "Share of items that are, in one space, among the neighbours of one of their neighbours in the other space."
    )
    formula = "ab: (1/n) sum_i 1[N_B(i) & {j : i in N_A(j)} is not empty]; ba: A and B swapped; mean: of the two"
    symmetric = False
    returns = True
    chance = "(1/n) sum_i [1 - C(n - 1 - c_i, k) / C(n - 1, k)], c_i the in-degree; about 1 - (1 - k/n)^k"
    nulls = ("permutation", "analytic")
    reference = PRH

    metric: Literal["cycle_knn"] = "cycle_knn"
    direction: PairDirection = Field(
        default="ab",
        description="Order of the two steps: `ab`, `ba` or the `mean` of both. The reference implementation uses `ab`.",
    )

    @property
    def is_symmetric(self) -> bool:
        """True if swapping the sides keeps the value; only for the mean of both directions."""
        return self.direction == "mean"
