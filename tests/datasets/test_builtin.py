import pytest

from consilience.datasets.builtin import is_builtin, open_dataset, parse_builtin
from consilience.errors import InvalidRequest, NotFound


def test_missing_options_have_their_defaults() -> None:
    assert str(parse_builtin("scenes")) == "scenes:n=512,seed=0"
    assert str(parse_builtin("scenes:seed=7,n=64")) == "scenes:n=64,seed=7"
    assert str(parse_builtin("stdlib-docs")) == "stdlib-docs"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scenes:colour=red", "no option 'colour=red'; its options are: n, seed"),
        ("scenes:", "no option ''"),
        ("scenes:n=-1", "no option 'n=-1'"),
        ("scenes:n=0", "must be between 1 and 10000"),
        ("scenes:n=10001", "must be between 1 and 10000"),
        ("stdlib-docs:n=5", "its options are: none"),
    ],
)
def test_an_invalid_option_is_refused_with_the_valid_ones(name: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_builtin(name)


def test_an_unknown_name_is_not_found() -> None:
    with pytest.raises(NotFound, match="no built-in dataset 'imagenet'"):
        open_dataset("imagenet")
    assert not is_builtin("imagenet")
    assert is_builtin("scenes:n=8")


def test_opening_by_name_gives_the_items() -> None:
    assert open_dataset("scenes:n=8,seed=3").n == 8
