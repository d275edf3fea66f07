import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from consilience.numerics.stats.nulls import draw_permutation


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(0, 2**32 - 1))
def test_items_of_one_group_stay_together_and_in_order(labels: list[int], seed: int) -> None:
    groups = np.array(labels, dtype=np.int32)
    permutation = draw_permutation(np.random.default_rng(seed), len(labels), groups)
    assert sorted(permutation) == list(range(len(labels)))
    for label in set(labels):
        rows = np.flatnonzero(groups == label)
        images = permutation[rows]
        assert len(set(groups[images])) == 1
        assert list(images) == list(np.flatnonzero(groups == groups[images[0]]))


def test_groups_of_one_size_change_places_uniformly() -> None:
    groups = np.array([0, 0, 1, 1, 2, 2, 3], dtype=np.int32)
    rng = np.random.default_rng(0)
    first = [groups[draw_permutation(rng, 7, groups)[0]] for _ in range(3000)]
    counts = np.bincount(first, minlength=4)
    assert counts[3] == 0
    assert (abs(counts[:3] - 1000) < 120).all()


def test_without_groups_every_item_moves_freely() -> None:
    rng = np.random.default_rng(1)
    draws = np.array([draw_permutation(rng, 3) for _ in range(600)])
    assert len({tuple(draw) for draw in draws.tolist()}) == 6
