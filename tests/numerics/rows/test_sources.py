import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilience.errors import UnpairedSides
from consilience.numerics.rows.sources import number_groups, pair_by_id

IDS = st.lists(st.text("abcdefgh", min_size=1, max_size=2), unique=True, min_size=1, max_size=30)


@given(IDS, IDS)
def test_a_join_pairs_every_common_id_once_in_the_order_of_a(a: list[str], b: list[str]) -> None:
    common = [item for item in a if item in set(b)]
    if not common:
        with pytest.raises(UnpairedSides, match="The two sides have no id in common"):
            pair_by_id(a, b)
        return
    pairs = pair_by_id(a, b)
    assert [a[row] for row in pairs.a] == [b[row] for row in pairs.b] == common
    assert (pairs.dropped_a, pairs.dropped_b) == (len(a) - len(common), len(b) - len(common))


def test_a_repeated_id_is_an_error_that_names_it() -> None:
    with pytest.raises(UnpairedSides, match="Side b repeats 1 ids, for example 'x'"):
        pair_by_id(["x", "y"], ["x", "x"])


def test_one_item_with_several_captions_is_paired_with_each() -> None:
    pairs = pair_by_id(["cat", "dog"], ["dog", "cat", "cat"], repeats_b=True)
    assert list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 0)]


def test_an_id_repeated_on_both_sides_is_an_error() -> None:
    with pytest.raises(UnpairedSides, match="both sides"):
        pair_by_id(["x", "x"], ["x", "x"], repeats_a=True, repeats_b=True)


def test_groups_are_numbered_in_the_order_of_their_first_row() -> None:
    assert number_groups(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]
