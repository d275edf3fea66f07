import numpy as np
import pytest

from consilience.numerics.neighbours import build_exact
from consilience.numerics.overlap import mutual_knn, mutual_knn_grid
from tests import twins


def stacks(n: int, layers_a: int, layers_b: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    shared = rng.normal(size=(n, 6))
    x = [twins.unit_rows(shared + rng.normal(size=(n, 6)) * (1 + i)) for i in range(layers_a)]
    y = [twins.unit_rows(shared + rng.normal(size=(n, 6)) * (1 + i)) for i in range(layers_b)]
    return np.array(x), np.array(y)


def graphs(stack: np.ndarray, k: int) -> np.ndarray:
    return np.stack([build_exact(x.astype(np.float32), k).ids for x in stack])


@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_overlap_is_that_of_sets(k: int) -> None:
    x, y = stacks(120, 1, 1, k)
    value = mutual_knn(graphs(x, k)[0], graphs(y, k)[0], k)
    assert value == pytest.approx(twins.mutual_knn(x[0], y[0], k), abs=1e-12)


def test_it_is_1_when_every_other_row_is_a_neighbour() -> None:
    x, y = stacks(15, 1, 1, 14)
    assert mutual_knn(graphs(x, 14)[0], graphs(y, 14)[0], 14) == 1.0


def test_a_grid_holds_each_pair_of_layers() -> None:
    x, y = stacks(80, 3, 2, 7)
    expected = [[twins.mutual_knn(a, b, 7) for b in y] for a in x]
    np.testing.assert_allclose(mutual_knn_grid(graphs(x, 7), graphs(y, 7)), expected, atol=1e-12)


def test_a_grid_of_more_than_64_layers_is_counted_in_several_words() -> None:
    x, y = stacks(30, 70, 2, 4)
    a, b = graphs(x, 4), graphs(y, 4)
    expected = [[mutual_knn(s, t, 4) for t in b] for s in a]
    np.testing.assert_allclose(mutual_knn_grid(a, b), expected, atol=1e-12)


def test_relabelling_equals_searching_the_permuted_rows_again() -> None:
    x, y = stacks(90, 2, 3, 6)
    order = np.random.default_rng(5).permutation(90)
    relabelled = mutual_knn_grid(graphs(x, 6), graphs(y, 6), order)
    np.testing.assert_allclose(relabelled, mutual_knn_grid(graphs(x, 6), graphs(y[:, order], 6)), atol=1e-12)
