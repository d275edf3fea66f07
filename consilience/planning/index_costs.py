"""What an approximate graph costs: learning the index, filling it, searching it, and measuring its recall."""

from collections.abc import Sequence

from consilience.contract.index_strings import CODE_BITS, ChosenIndex, IndexShape, choose_index
from consilience.contract.search import Approximate

#: As `numerics.faiss_indexes` has them.
POINTS_PER_CENTROID = 40
POINTS_PER_COLUMN = 16
SAMPLE_MIN = 1 << 14
TURN_ROUNDS = 10
#: Rounds of k-means that learn lists, and words of codes; passes over a matrix that its singular values take.
LIST_ROUNDS = 10
WORD_ROUNDS = 25
TURN_PASSES = 30
#: Breadth of the search that links a new row.
LINKING_BREADTH = 40
FLOAT32_BYTES = 4
ID_BYTES = 8


def index_costs(choice: Approximate, n: int, dims: Sequence[int], k: int) -> tuple[float, int]:
    """Floating-point operations of the graphs of layers of so many columns, and the bytes of the largest index.

    Raises
    ------
    InvalidRequest
        The index does not suit a layer's rows.
    """
    indexes = [(choose_index(choice, n, dim, k), dim) for dim in dims]
    flops = sum(index_flops(index, n, dim, k, choice.recall_queries) for index, dim in indexes)
    return flops, max(index_bytes(index, n, dim) for index, dim in indexes)


def count_candidates(choice: Approximate, n: int, d: int, k: int) -> int:
    """Rows that are looked at to rank what the index proposes."""
    return n * choose_index(choice, n, d, k).shape.spare * k


def index_flops(index: ChosenIndex, n: int, d: int, k: int, recall_queries: int) -> float:
    """Floating-point operations of a graph of k neighbours among n rows of d columns."""
    shape, dim = index.shape, index.shape.turn_dim or d
    ranked = n * shape.spare * k
    recall = min(n, recall_queries) * n
    return _learning(shape, n, d) + 2.0 * dim * _seen(index, n, k) + 2.0 * d * (ranked + recall)


def index_bytes(index: ChosenIndex, n: int, d: int) -> int:
    """Bytes of the index and of the sample that it is learnt from."""
    shape, dim = index.shape, index.shape.turn_dim or d
    links = 2 * FLOAT32_BYTES * (shape.links or 0)
    codes = n * (shape.code_bits(d) // 8 + links + ID_BYTES)
    return codes + FLOAT32_BYTES * ((shape.lists or 0) * dim + 2 * _points(shape, n, d) * max(d, dim))


def _points(shape: IndexShape, n: int, d: int) -> int:
    """Rows of the sample."""
    words = 2**shape.bits if shape.segments is not None else 0
    turn_words = 2**CODE_BITS if shape.turn_segments is not None else 0
    centroids = max(shape.lists or 0, words, turn_words)
    return min(n, max(SAMPLE_MIN, POINTS_PER_CENTROID * centroids, POINTS_PER_COLUMN * d))


def _learning(shape: IndexShape, n: int, d: int) -> float:
    points, dim = _points(shape, n, d), shape.turn_dim or d
    words = WORD_ROUNDS * 2.0**shape.bits if shape.segments is not None else 0.0
    turn = 0.0
    if shape.turn is not None:
        rounds = TURN_ROUNDS if shape.turn == "OPQ" else 1
        learnt = WORD_ROUNDS * 2.0**CODE_BITS if shape.turn == "OPQ" else 0.0
        turn = rounds * (TURN_PASSES * float(max(d, dim)) ** 3 + 2 * points * dim * (d + learnt)) + 4.0 * n * d * dim
    return turn + 2.0 * points * dim * (LIST_ROUNDS * (shape.lists or 0) + words)


def _seen(index: ChosenIndex, n: int, k: int) -> float:
    """Rows and centres that all rows together are compared with, while the index is filled and while it is searched."""
    shape, effort = index.shape, index.effort or 1
    words = 2.0**shape.bits if shape.segments is not None else 0.0
    if shape.lists is not None:
        probed = effort * n / shape.lists
        # Rows whose lists come back too short are searched exactly.
        return n * (2.0 * shape.lists + words + (probed if probed > 2 * shape.spare * k else n))
    if shape.links is not None:
        breadth = max(effort, shape.spare * k) + LINKING_BREADTH
        return n * (min(float(n), breadth * shape.links) + words)
    return n * (float(n) + words)
