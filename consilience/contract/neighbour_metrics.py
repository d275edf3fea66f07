"""Metrics that compare whose neighbours are whose."""

from typing import Literal

from pydantic import Field

from consilience.contract.metric import NeighbourMetric, PairDirection

RESI = "Klabunde et al. 2024, ReSi, arXiv 2408.00531, appendix A"
PRH = "Huh et al. 2024, The Platonic Representation Hypothesis, arXiv 2405.07987, appendix A"


class MutualKnn(NeighbourMetric):
    """Mean share of the k nearest neighbours of an item that are the same in both spaces."""

    title = "Mutual k-nearest neighbours"
    summary = "The mean share of an item's k nearest neighbours that are the same in both spaces."
    formula = "(1/nk) sum_i |N_A(i) & N_B(i)|"
    chance = "k / (n - 1)"
    nulls = ("analytic", "permutation")
    reference = f"{PRH}, eq. 12"

    metric: Literal["mutual_knn"] = "mutual_knn"


class JaccardKnn(NeighbourMetric):
    """Mean Jaccard index of the two sets of neighbours."""

    title = "Jaccard k-nearest neighbours"
    summary = "The mean ratio of shared neighbours to all neighbours that either space lists."
    formula = "(1/n) sum_i |N_A(i) & N_B(i)| / |N_A(i) | N_B(i)|"
    chance = "about k / (2 (n - 1))"
    reference = RESI

    metric: Literal["jaccard_knn"] = "jaccard_knn"


class RankSimilarity(NeighbourMetric):
    """Agreement of the ranks of the shared neighbours."""

    title = "Rank similarity"
    summary = "How alike the shared neighbours are ranked, early ranks counting more; 0 where none is shared."
    formula = "(1/n) sum_i [sum_{j in N_A & N_B} 2 / ((1 + |r_A - r_B|)(r_A + r_B))] / H_{|N_A & N_B|}"
    chance = "found by permutation; falls with k / n"
    reference = f"{RESI}; Wang et al. 2022"

    metric: Literal["rank_similarity"] = "rank_similarity"


class LcsKnn(NeighbourMetric):
    """Longest common subsequence of the two ordered lists of neighbours."""

    title = "Longest common subsequence of neighbours"
    summary = "The mean length of the longest sequence of neighbours that both lists hold in the same order, over k."
    formula = "(1/nk) sum_i LCS(list_A(i), list_B(i)); raw: not divided by k"
    reference = f"{PRH}, where it is not divided by k in the code"
    k_squared = True

    metric: Literal["lcs_knn"] = "lcs_knn"
    raw: bool = Field(
        default=False,
        description="Whether to return the mean length itself, as the reference implementation does, instead of dividing "
        "it by k.",
    )

    @property
    def ceiling(self) -> float | None:
        """The length of the lists where it is not divided by."""
        return float(self.k[0]) if self.raw else self.high


class EditDistanceKnn(NeighbourMetric):
    """One minus the normalised edit distance between the two ordered lists of neighbours."""

    title = "Edit distance of neighbours"
    summary = "One minus the mean number of edits that turn one neighbour list into the other, over k."
    formula = "1 - (1/nk) sum_i Levenshtein(list_A(i), list_B(i))"
    reference = PRH
    k_squared = True

    metric: Literal["edit_distance_knn"] = "edit_distance_knn"


class SecondOrderCosine(NeighbourMetric):
    """Cosine similarity, between the two spaces, of an item's similarities to its neighbours in either space."""

    title = "Second-order cosine similarity"
    summary = "How alike the two spaces see the similarities of an item to all neighbours that either space lists."
    formula = "(1/n) sum_i cos(s_A(i, U_i), s_B(i, U_i)), U_i = N_A(i) | N_B(i), s the similarity (ReSi's code: 1 - s)"
    low = -1.0
    chance = "found by permutation; far above 0 where the rows have a mean"
    reference = f"{RESI}; Hamilton et al. 2016, arXiv 1606.02821, eq. 4"

    metric: Literal["second_order_cosine"] = "second_order_cosine"


class CycleKnn(NeighbourMetric):
    """Share of items that a step to a neighbour in one space and a step back in the other space can return to."""

    title = "Cycle k-nearest neighbours"
    summary = "The share of items that have a neighbour in one space of which they are a neighbour in the other."
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
        """Only the mean of both directions is."""
        return self.direction == "mean"
