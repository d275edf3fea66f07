"""How neighbours are searched, in words."""

import pytest
from pydantic import ValidationError

from consilience.contract.jobs import ScoringOptions
from consilience.contract.search import Estimate


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"queries": 50}, "greater than or equal to 100"),
        ({"half_width": 1.5}, "less than 1"),
        ({"queries": 200, "half_width": 0.1}, "exactly one of"),
        ({}, "exactly one of"),
        ("some", "should be 'all'"),
    ],
)
def test_an_estimate_that_cannot_be_is_refused_with_one_message_about_what_was_meant(
    value: object, message: str
) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        ScoringOptions.model_validate({"estimate": value})
    assert caught.value.error_count() == 1


def test_an_estimate_is_all_or_a_rule() -> None:
    assert ScoringOptions().estimate == "all"
    assert ScoringOptions.model_validate({"estimate": {"queries": 128}}).estimate == Estimate(queries=128)
