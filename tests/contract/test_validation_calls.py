from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import numpy as np
import pytest

from consilience import fit_map, score, study, upgrade_report
from consilience.contract.alignments import ScoringOptions
from consilience.contract.base import Request
from consilience.contract.maps import MapOptions
from consilience.contract.studies import StudyOptions
from consilience.contract.upgrades import UpgradeOptions
from consilience.contract.validation import InvalidOption
from consilience.errors import InvalidRequest

ROWS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
CALLS: list[tuple[Callable[..., Any], type[Request], tuple[object, ...]]] = [
    (score, ScoringOptions, (ROWS, ROWS)),
    (study, StudyOptions, ({"a": ROWS, "b": ROWS},)),
    (fit_map, MapOptions, (ROWS, ROWS)),
    (upgrade_report, UpgradeOptions, (ROWS, ROWS)),
]
#: Fields without a keyword: a study refuses the first, nobody is told of a local result, models have the metadata.
WITHOUT_KEYWORD = {study: {"gallery_sizes", "webhook", "metadata"}}


@pytest.mark.parametrize(("call", "kind", "_sides"), CALLS)
def test_every_option_of_the_contract_is_a_keyword(call: Callable[..., Any], kind: type[Request], _sides: Any) -> None:
    keywords = {name for name, each in signature(call).parameters.items() if each.kind is Parameter.KEYWORD_ONLY}
    assert kind.model_fields.keys() - keywords == WITHOUT_KEYWORD.get(call, set()) - keywords


@pytest.mark.parametrize(("call", "kind", "_sides"), CALLS)
def test_defaults_are_those_of_the_contract(call: Callable[..., Any], kind: type[Request], _sides: Any) -> None:
    keywords = {name: each.default for name, each in signature(call).parameters.items() if name in kind.model_fields}
    assert keywords.pop("metadata") is None  # none is an empty one
    assert kind.model_validate(keywords) == kind()


@pytest.mark.parametrize(("call", "_kind", "sides"), CALLS)
def test_an_unknown_option_is_refused_with_the_nearest_name(call: Callable[..., Any], _kind: Any, sides: Any) -> None:
    with pytest.raises(
        InvalidOption, match=r"There is no option 'layer'; allowed: .*pairing, .*Did you mean `layers`\?"
    ):
        call(*sides, layer="all")


def test_an_unknown_option_is_a_type_error_and_an_invalid_request() -> None:
    with pytest.raises(TypeError) as refused:
        score(ROWS, ROWS, metric="cka")  # type: ignore[arg-type]  # mypy refuses it too
    assert isinstance(refused.value, InvalidRequest)
    assert refused.value.value == "metric"


def test_options_and_keywords_are_not_given_together() -> None:
    with pytest.raises(InvalidOption, match="The option 'seed' was given beside `options`"):
        score(ROWS, ROWS, ScoringOptions(), seed=3)


def test_arguments_that_are_no_options_may_stand_beside_options() -> None:
    ids = [str(row) for row in range(20)]
    options = ScoringOptions.model_validate({"metrics": "mutual_knn", "pairing": "id"})
    assert score(ROWS, ROWS, options, ids=(ids, ids[::-1])).n == 20


def test_a_metric_is_a_name_a_mapping_or_a_model() -> None:
    (metric,) = ScoringOptions.model_validate({"metrics": "mutual_knn"}).metrics
    found = [score(ROWS, ROWS, metrics=each).scores for each in ("mutual_knn", {"metric": "mutual_knn"}, metric)]
    assert found[0] == found[1] == found[2]
