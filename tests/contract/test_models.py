import pytest
from pydantic import TypeAdapter, ValidationError

from consilience.contract.models import (
    ModelIdentifier,
    ModelName,
    Pooling,
    check_model,
    check_pooling,
    parse_model,
)
from consilience.errors import InvalidRequest, ModelNotAllowed


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("hf:gpt2", ModelName("hf", "gpt2")),
        ("hf:acme/tiny@v1.0", ModelName("hf", "acme/tiny", "v1.0")),
        ("st:all-MiniLM-L6-v2@refs/pr/1", ModelName("st", "all-MiniLM-L6-v2", "refs/pr/1")),
        ("timm:vit_tiny_patch16_224.augreg_in21k", ModelName("timm", "vit_tiny_patch16_224.augreg_in21k")),
        ("endpoint:tei", ModelName("endpoint", "tei")),
        ("baseline:pixels", ModelName("baseline", "pixels", options=(("size", 16),))),
        ("baseline:random?seed=7", ModelName("baseline", "random", options=(("dim", 256), ("seed", 7)))),
        ("local:/models/my model", ModelName("local", "/models/my model")),
        ("local:mine/step 100", ModelName("local", "mine/step 100")),
    ],
)
def test_a_model_identifier_is_parsed(identifier: str, name: ModelName) -> None:
    assert parse_model(identifier) == name
    assert TypeAdapter(ModelIdentifier).validate_python(identifier) == identifier


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "gpt2",
        ":gpt2",
        "openai:gpt",
        "hf:",
        "hf:a/b/c",
        "hf:../secret",
        "hf:acme/..",
        "hf:.hidden",
        "hf:acme/tiny@",
        "hf:acme/tiny@../x",
        "hf:https://host/x",
        "hf:a b",
        "st:x\n",
        "endpoint:http://host",
        "baseline:noise",
        "baseline:random?dim=0",
        "baseline:random?dim=99999999999999999999999999999999",
        "baseline:pixels?dim=3",
        "baseline:pixels?size=224x",
        "local:",
        "local:..",
        "local:/models/../etc",
        "local:./x",
        "local:a//b",
        "local:a\x00b",
        "hf:" + "a" * 300,
    ],
)
def test_an_invalid_model_identifier_is_refused_with_an_example(identifier: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_model(identifier)
    with pytest.raises(ValidationError):
        TypeAdapter(ModelIdentifier).validate_python(identifier)


def test_models_are_allowed_by_patterns_of_the_operator() -> None:
    allowed = ("baseline:*", "hf:acme/*", "st:one", "st:two@v1")
    for identifier in ("baseline:random?dim=3", "hf:acme/tiny@v1", "st:one", "st:one@v9", "st:two@v1"):
        assert str(check_model(identifier, allowed)) == identifier.partition("@")[0].partition("?")[0]
    for identifier in ("hf:other/tiny", "hf:ACME/tiny", "st:two", "st:two@v2", "local:one"):
        with pytest.raises(ModelNotAllowed, match="CONSILIENCE_MODELS"):
            check_model(identifier, allowed)


@pytest.mark.parametrize(
    ("identifier", "poolings"),
    [
        ("hf:x", {"auto", "mean", "cls", "last"}),
        ("timm:x", {"auto", "mean", "cls"}),
        ("st:x", {"auto"}),
        ("endpoint:x", {"auto"}),
        ("baseline:random", {"auto"}),
    ],
)
def test_pooling_is_refused_for_models_with_their_own(identifier: str, poolings: set[Pooling]) -> None:
    everything: tuple[Pooling, ...] = ("auto", "mean", "cls", "last")
    for pooling in everything:
        if pooling in poolings:
            check_pooling(parse_model(identifier), pooling)
        else:
            with pytest.raises(InvalidRequest, match="pooling"):
                check_pooling(parse_model(identifier), pooling)


def test_a_model_identifier_determines_the_kinds_of_views() -> None:
    kinds = {word: parse_model(word).kinds for word in ("hf:x", "timm:x", "baseline:random", "local:x")}
    assert kinds == {
        "hf:x": {"text", "code"},
        "timm:x": {"image"},
        "baseline:random": {"text", "code", "image"},
        "local:x": None,
    }
