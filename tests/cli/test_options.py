"""Options as words."""

import pytest

from consilience.cli.options import parse_layers
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
