from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from consilience.contract.alignments import AlignmentRequest, Side
from consilience.contract.extraction import Extraction
from consilience.contract.maps import MapRequest
from consilience.contract.pointers import find_pointer
from consilience.contract.upgrades import UpgradeRequest
from consilience.contract.validation import allowed_fields, explain


def faults_of(body: Any, model: type[BaseModel] = AlignmentRequest) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return {fault.pointer: fault.detail for fault in explain(caught.value, body, model).faults}


SIDES = {"a": {"embedding": "emb_" + "0" * 32}, "b": {"embedding": "emb_" + "1" * 32}}


def test_a_pointer_follows_the_body_as_it_was_sent() -> None:
    assert list(faults_of({**SIDES, "metrics": [{"metric": "mutual_knn", "k": [3, 0]}]})) == ["/metrics/0/k/1"]
    assert list(faults_of({**SIDES, "metrics": {"metric": "mutual_knn", "k": 0}})) == ["/metrics/k"]


def test_a_pointer_escapes_slash_and_tilde() -> None:
    assert list(faults_of({**SIDES, "a/b~c": 1})) == ["/a~1b~0c"]


def test_a_missing_field_is_pointed_at() -> None:
    assert faults_of({"a": SIDES["a"]}) == {"/b": "Field required."}


def test_the_members_of_a_union_complain_once() -> None:
    assert len(faults_of({**SIDES, "layers": {"a": 7}})) == 1


def test_steps_that_the_body_does_not_have_are_left_out() -> None:
    assert find_pointer(("metrics", 0, "cka", "debiased"), {"metrics": [{"debiased": 3}]}, missing=False) == (
        "/metrics/0/debiased"
    )


@pytest.mark.parametrize(
    ("location", "body", "fields"),
    [
        (("a",), {"a": {}}, (*Side.model_fields, *Extraction.model_fields)),
        (("layers", "Layers"), {"layers": {}}, ("a", "b")),
        (("metrics", 0, "cka"), {"metrics": [{}]}, ("metric", "kernel", "debiased", "definition", "sigma")),
        (("metrics", 0, "cka"), {"metrics": {}}, ("metric", "kernel", "debiased", "definition", "sigma")),
        (("interval",), {"interval": {}}, ("level", "target")),
    ],
)
def test_the_fields_allowed_are_found_wherever_the_fault_is(
    location: tuple[str, ...], body: Any, fields: tuple[str, ...]
) -> None:
    assert allowed_fields(AlignmentRequest, location, body) == fields


@pytest.mark.parametrize(
    ("option", "value", "detail"),
    [
        (
            "builder",
            "fais",
            (
                "This must be 'auto', 'faiss', 'symmetric', 'verified_bf16' or a JSON object with index, effort, "
                "recall_queries. Did you mean `faiss`?"
            ),
        ),
        ("estimate", "some", "This must be 'all' or a JSON object with queries, half_width, level."),
        ("estimate", 5, "This must be 'all' or a JSON object with queries, half_width, level."),
        (
            "null",
            "exact",
            (
                "This must be 'auto', 'analytic', 'permutation', 'none' or a JSON object with method, permutations, "
                "alpha, correction."
            ),
        ),
        ("interval", "wide", "This must be a JSON object with level, target."),
        ("layers", "first", "This must be 'last', 'all', a list or a JSON object with a, b."),
        ("gallery_sizes", 7, "This must be 'auto' or a list."),
        ("pairing", "rows", "This must be 'row' or 'id'. Did you mean `row`?"),
        ("metrics", 5, "This must be the name of a metric or a JSON object with `metric` and its options."),
    ],
)
def test_a_fault_says_every_form_that_is_allowed(option: str, value: object, detail: str) -> None:
    assert faults_of({**SIDES, option: value}) == {f"/{option}": detail}


def test_a_fault_inside_an_object_says_what_is_allowed_there() -> None:
    assert faults_of({**SIDES, "null": {"method": "exact"}}) == {
        "/null/method": "This must be 'auto', 'analytic', 'permutation' or 'none'."
    }
    assert faults_of({**SIDES, "metrics": [{"metric": "cka", "kernel": "cubic"}]}) == {
        "/metrics/0/kernel": "This must be 'linear' or 'rbf'."
    }


FORMS_OF_A_MAP = "This must be the name of a kind of map or a JSON object with `kind` and its options."


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        (
            "rigde",
            "There is no kind of map 'rigde'; allowed: procrustes, ridge, low_rank, relative, mlp. Did you mean `ridge`?",
        ),
        (None, FORMS_OF_A_MAP),
        ({"penalty": 1}, FORMS_OF_A_MAP),
    ],
)
def test_a_map_is_told_apart_from_a_metric(given: object, detail: str) -> None:
    assert faults_of({**SIDES, "map": given}, MapRequest) == {"/map": detail}


def test_a_kind_of_map_that_has_a_metrics_name_has_its_own_options() -> None:
    faults = faults_of({**SIDES, "map": {"kind": "procrustes", "penalty": 1}}, MapRequest)
    assert faults == {"/map/penalty": "There is no field 'penalty'; allowed: kind, scale, translation."}


def test_a_metric_without_its_name_is_asked_for_it() -> None:
    detail = "This must be the name of a metric or a JSON object with `metric` and its options."
    assert faults_of({**SIDES, "metrics": [{"k": 3}]}) == {"/metrics/0": detail}


def test_a_list_of_the_wrong_length_is_called_what_the_caller_calls_it() -> None:
    assert faults_of({**SIDES, "metrics": []}) == {"/metrics": "There must be at least 1 entry, not 0."}
    # Both entries are wrong, which pydantic also calls a list of none.
    assert faults_of({**SIDES, "metrics": ["cca", {"metric": "cka", "k": 3}]}).keys() == {"/metrics/0", "/metrics/1/k"}
    sides = {"old": SIDES["a"], "new": SIDES["b"]}
    assert faults_of({**sides, "maps": ["ridge"] * 17}, UpgradeRequest) == {
        "/maps": "There must be at most 16 entries, not 17."
    }


@pytest.mark.parametrize("key", ["0", "cka"])
def test_what_stands_under_a_word_of_the_caller_is_told_apart_from_the_word(key: str) -> None:
    body = {
        "old": SIDES["a"],
        "new": SIDES["b"],
        "queries": {"old": SIDES["a"], "new": SIDES["b"]},
        "qrels": {key: {}},
    }
    with pytest.raises(ValidationError) as caught:
        UpgradeRequest.model_validate(body)
    (fault,) = explain(caught.value, body, UpgradeRequest).faults
    assert (fault.pointer, fault.detail) == (f"/qrels/{key}", "This must be a list.")
