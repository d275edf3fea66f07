import pytest
from pydantic import TypeAdapter, ValidationError

from consilience.contract.alignments import AlignmentRequest, ScoringOptions
from consilience.contract.metrics import METRICS, Cka, Metric, MetricChoice, MutualKnn, catalogue

CHOICE: TypeAdapter[Metric] = TypeAdapter(MetricChoice)
FACTS = (
    *("title", "summary", "formula", "reference", "score_direction", "symmetric", "low", "high", "chance", "nulls"),
    *("rotation_invariant", "scale_invariant", "cost", "work"),
)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_every_metric_declares_all_properties(metric: type[Metric]) -> None:
    for fact in FACTS:
        assert hasattr(metric, fact), fact
    assert METRICS[metric.model_fields["metric"].default] is metric


@pytest.mark.parametrize("name", METRICS)
def test_the_name_of_a_metric_means_its_defaults(name: str) -> None:
    assert CHOICE.validate_python(name) == METRICS[name]()


def test_the_catalogue_lists_every_metric_with_its_options() -> None:
    cards = {card.name: card for card in catalogue().data}
    assert list(cards) == list(METRICS)
    assert set(cards["cka"].options) == {"kernel", "debiased", "definition", "sigma"}


def test_a_list_of_k_gives_one_metric_for_each() -> None:
    assert [metric.options() for metric in MutualKnn(k=(5, 10)).each()] == [{"k": 5}, {"k": 10}]
    assert list(Cka().each()) == [Cka()]


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ("mutual_nn", "union_tag_invalid"),
        ({"k": 10}, "union_tag_not_found"),
        ({"metric": "cka", "k": 10}, "extra_forbidden"),
        ({"metric": "mutual_knn", "k": 0}, "greater_than_equal"),
        ({"metric": "mutual_knn", "k": []}, "too_short"),
        ({"metric": "cka", "definition": "mine"}, "literal_error"),
    ],
)
def test_invalid_metrics_are_refused(choice: object, kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CHOICE.validate_python(choice)
    assert kind in {error["type"] for error in caught.value.errors()}


def test_shorthands_and_full_forms_mean_the_same() -> None:
    short = ScoringOptions.model_validate({"metrics": "cka", "layers": "all", "preparation": "prh"})
    full = ScoringOptions.model_validate(
        {"metrics": [{"metric": "cka"}], "layers": {"a": "all", "b": "all"}, "preparation": {"profile": "prh"}}
    )
    assert short == full


@pytest.mark.parametrize("side", [{}, {"embedding": "emb_" + "0" * 32, "vectors": [[1.0]]}, {"embedding": "../etc"}])
def test_a_side_has_exactly_one_source(side: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AlignmentRequest.model_validate({"a": side, "b": {"embedding": "emb_" + "0" * 32}})


def test_a_request_survives_json_with_every_default_filled_in() -> None:
    request = AlignmentRequest.model_validate({"a": {"vectors": [[1.0]]}, "b": {"vectors": [[2.0]]}})
    assert AlignmentRequest.model_validate_json(request.model_dump_json()) == request
