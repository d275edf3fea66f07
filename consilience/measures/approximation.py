"""Approximate graphs: how the words of a request become a search, and what is said of the scores."""

from collections.abc import Sequence

from consilience.contract.index_strings import choose_index
from consilience.contract.search import Approximate
from consilience.numerics.approximate import Search
from consilience.numerics.neighbours import NeighbourGraph

#: Rows up to which the exact builders take no longer, measured against auto at 384 columns.
EXACT_ROWS = 50_000


def find_search(choice: Approximate, n: int, dim: int, k: int, seed: int) -> Search:
    """Find how the k neighbours of each of n rows of so many columns are searched.

    Raises
    ------
    InvalidRequest
        The index does not suit the rows.
    """
    index = choose_index(choice, n, dim, k)
    return Search(index.shape.text, index.effort, index.shape.spare, choice.recall_queries, seed)


def worst_recall(graphs: Sequence[NeighbourGraph], k: int) -> float:
    """Share of the true k neighbours in the worst of some graphs; 1 where all are exact."""
    return min(1.0 if graph.recall is None else graph.recall[k - 1] for graph in graphs)


def warn(a: Sequence[NeighbourGraph], b: Sequence[NeighbourGraph], k: int) -> tuple[str, ...]:
    """Say what missing neighbours do to a score, where some graph of either side is approximate."""
    asked = [graph.recall_queries for graph in (*a, *b) if graph.recall_queries is not None]
    if not asked:
        return ()
    found_a, found_b = worst_recall(a, k), worst_recall(b, k)
    told = (
        f"The graphs are approximate: measured on {min(asked)} rows, they hold {found_a:.2%} of the true {k} neighbours "
        f"in a and {found_b:.2%} in b. A shared neighbour counts only where both sides found it: agreement beyond chance "
        f"is too low, by a factor of {found_a * found_b:.3f} if neighbours are missed at random."
    )
    n = len(a[0].ids)
    if n > EXACT_ROWS:
        return (told,)
    return told, f"At {n} rows an exact graph takes no longer: `builder: auto` makes one."
