"""Natural order of names."""

from hypothesis import given
from hypothesis import strategies as st

from consilience.formats.checks import natural_key


def test_numbers_within_names_count_as_numbers() -> None:
    names = ["layer10", "layer2", "layer2.b", "layer2.a", "embed", "10", "9", "layer02", "b1a", "1a"]
    assert sorted(names, key=natural_key) == [
        "1a", "9", "10", "b1a", "embed", "layer02", "layer2", "layer2.a", "layer2.b", "layer10",
    ]  # fmt: skip


NAMES = st.lists(st.text(max_size=128), unique=True)


@given(NAMES.flatmap(lambda names: st.tuples(st.just(names), st.permutations(names))))
def test_the_order_of_names_does_not_depend_on_the_input_order(orders: tuple[list[str], list[str]]) -> None:
    one, other = orders
    assert sorted(one, key=natural_key) == sorted(other, key=natural_key)
