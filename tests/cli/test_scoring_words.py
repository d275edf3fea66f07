"""Options of a comparison as words."""

import pytest

from consilience.cli.parsing import parse_bytes, parse_estimate, parse_layers, parse_sizes
from consilience.errors import InvalidRequest


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        (["last"], {"a": "last", "b": "last"}),
        (["all"], {"a": "all", "b": "all"}),
        (["4,6"], {"a": ["4", "6"], "b": ["4", "6"]}),
        (["a=6"], {"a": ["6"], "b": "last"}),
        (["all", "b=2"], {"a": "all", "b": ["2"]}),
        (["encoder.layer=3"], {"a": ["encoder.layer=3"], "b": ["encoder.layer=3"]}),
    ],
)
def test_layers_are_chosen_for_both_sides_or_for_one(words: list[str], layers: dict[str, object]) -> None:
    assert parse_layers(words) == layers


@pytest.mark.parametrize("word", ["", "a="])
def test_no_layer_at_all_is_refused(word: str) -> None:
    with pytest.raises(InvalidRequest, match="No layer"):
        parse_layers([word])


@pytest.mark.parametrize(
    ("word", "choice"),
    [("all", "all"), ("4096", {"queries": 4096}), ("1e4", {"queries": 10_000}), ("0.005", {"half_width": 0.005})],
)
def test_an_estimate_is_a_number_of_rows_or_a_half_width(word: str, choice: object) -> None:
    assert parse_estimate(word) == choice


@pytest.mark.parametrize("word", ["some", "0", "-1", "nan", "inf", "99", "400.5"])
def test_what_says_of_no_rows_that_they_ask_is_refused(word: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_estimate(word)


@pytest.mark.parametrize(
    ("word", "sizes"), [(None, None), ("auto", "auto"), ("1000", [1000]), ("1000,3000", [1000, 3000])]
)
def test_gallery_sizes_are_numbers_of_rows(word: str | None, sizes: object) -> None:
    assert parse_sizes(word) == sizes


@pytest.mark.parametrize("word", ["", "1000,", "few", "1.5"])
def test_other_gallery_sizes_are_refused(word: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_sizes(word)


@pytest.mark.parametrize(
    ("word", "size"),
    [("1000", 1000), ("2GB", 2 * 10**9), ("1.5GiB", 3 * 2**29), ("512 mb", 512 * 10**6), ("3g", 3 * 10**9)],
)
def test_sizes_of_memory_have_units(word: str, size: int) -> None:
    assert parse_bytes(word) == size
