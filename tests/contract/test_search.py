"""Options of neighbour search."""

import pytest
from pydantic import ValidationError

from consilience.contract.alignments import NullChoice, ScoringOptions
from consilience.contract.search import Estimate


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"queries": 50}, "greater than or equal to 100"),
        ({"half_width": 1.5}, "less than 1"),
        ({"half_width": 1e-300}, "greater than or equal to 0.000001"),
        ({"half_width": 0.01, "level": 1 - 2**-53}, "less than or equal to 0.999999"),
        ({"queries": 200, "half_width": 0.1}, "exactly one of"),
        ({}, "exactly one of"),
        ("some", "should be 'all'"),
    ],
)
def test_an_invalid_estimate_is_refused_with_one_message(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        ScoringOptions.model_validate({"estimate": value})
    assert caught.value.error_count() == 1


def test_invalid_gallery_sizes_are_refused_with_messages_about_numbers() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 4") as caught:
        ScoringOptions.model_validate({"gallery_sizes": [3]})
    assert "should be 'auto'" not in str(caught.value)


def test_a_null_is_a_name_or_an_object() -> None:
    assert ScoringOptions.model_validate({"null": "none"}).null == NullChoice(method="none")


def test_a_confidence_level_that_rounds_to_1_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal"):
        ScoringOptions.model_validate({"interval": {"level": 1 - 2**-53}})


def test_an_estimate_is_all_or_an_object() -> None:
    assert ScoringOptions().estimate == "all"
    assert ScoringOptions.model_validate({"estimate": {"queries": 128}}).estimate == Estimate(queries=128)
