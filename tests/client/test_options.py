"""Options of the calls: their errors, and the keywords of their fields."""

from typing import Any, get_type_hints

import pytest

from consilience.client.operations import options_of
from consilience.contract.alignments import ScoringOptions
from consilience.contract.keywords import MapKeywords, ScoringKeywords, StudyKeywords, UpgradeKeywords
from consilience.contract.maps import MapOptions
from consilience.contract.studies import StudyOptions
from consilience.contract.upgrades import UpgradeOptions
from consilience.errors import InvalidRequest


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"builder": {"index": "Flat"}}, "/builder/index", "/builder/index: The index 'Flat' is not supported"),
        ({"estimate": {"half_width": 2}}, "/estimate/half_width", "less than 1"),
        ({"gallery_sizes": [5, 3]}, "/gallery_sizes/1", "greater than or equal to 4"),
        ({"metrics": [{"metric": "mutual_knn", "k": 0}]}, "/metrics/0/k", "greater than or equal to 1"),
        ({"estimate": {}}, "/estimate", "exactly one of"),
    ],
)
def test_an_invalid_option_is_located_by_a_json_pointer(fields: dict[str, object], pointer: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        options_of(ScoringOptions, None, fields)
    assert caught.value.pointer == pointer
    assert words in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_an_unknown_option_names_the_one_that_it_resembles() -> None:
    with pytest.raises(InvalidRequest) as caught:
        options_of(ScoringOptions, None, {"metric": "cka"})
    assert "There is no field 'metric'; allowed: metrics, layers, " in str(caught.value)
    assert str(caught.value).endswith("Did you mean `metrics`?")


@pytest.mark.parametrize(
    ("keywords", "options", "parameters"),
    [
        (ScoringKeywords, ScoringOptions, set()),
        (StudyKeywords, StudyOptions, {"metadata", "webhook"}),
        (MapKeywords, MapOptions, set()),
        (UpgradeKeywords, UpgradeOptions, set()),
    ],
)
def test_keywords_are_the_fields_of_their_options(keywords: Any, options: Any, parameters: set[str]) -> None:
    assert get_type_hints(keywords).keys() == options.model_fields.keys() - parameters
