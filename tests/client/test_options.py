"""Options are refused in the caller's own words, before anything is sent."""

import pytest

from consilience.client.options import options_of
from consilience.contract.alignments import ScoringOptions
from consilience.errors import InvalidRequest


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"builder": {"index": "Flat"}}, "/builder/index", "/builder/index: Not an index"),
        ({"estimate": {"half_width": 2}}, "/estimate/half_width", "less than 1"),
        ({"gallery_sizes": [5, 3]}, "/gallery_sizes/1", "greater than or equal to 4"),
        ({"metrics": [{"metric": "mutual_knn", "k": 0}]}, "/metrics/0/k", "greater than or equal to 1"),
        ({"estimate": {}}, "/estimate", "exactly one of"),
    ],
)
def test_a_fault_is_told_by_its_place_in_what_was_written(fields: dict[str, object], pointer: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        options_of(ScoringOptions, None, fields)
    assert caught.value.pointer == pointer
    assert words in str(caught.value)
    assert "Value error" not in str(caught.value)
