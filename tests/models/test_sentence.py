"""Rows of sentence-transformers models against the library's own `encode`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from consilience.errors import InvalidRequest, UnreadableFile, UnsupportedFormat
from consilience.models.base import UnusableItem
from consilience.models.registry import open_model
from consilience.models.rules import ModelRules
from tests.models.conftest import TEXTS


@pytest.mark.parametrize("name", ["tiny-sentences", "tiny-prompted"])
def test_rows_equal_those_of_the_librarys_encode(name: str, rules: ModelRules, folders: Path) -> None:
    model = open_model(f"st:{name}", rules)
    expected = SentenceTransformer(str(folders / name), device="cpu").encode(list(TEXTS), batch_size=1)
    assert model.layers == (("embedding", 20),)
    np.testing.assert_allclose(model.encode(TEXTS, ["embedding"]).rows[0], expected, atol=1e-5)


def test_a_default_prompt_precedes_each_text_and_is_in_the_record(rules: ModelRules) -> None:
    assert open_model("st:tiny-prompted", rules).record.preparation == {"prompt": "Find what says: "}
    assert open_model("st:tiny-sentences", rules).record.preparation == {}


def test_longer_texts_are_truncated_and_counted(rules: ModelRules) -> None:
    model = open_model("st:tiny-sentences", rules)
    assert model.record.max_length == 24
    assert model.record.pooling == "built_in"
    assert model.encode(TEXTS, ["embedding"]).truncated == 1
    assert open_model("st:tiny-sentences", rules, max_length=12).encode(TEXTS, ["embedding"]).truncated == 3
    with pytest.raises(InvalidRequest, match="at most 24"):
        open_model("st:tiny-sentences", rules, max_length=25)


def test_opened_as_a_transformer_the_model_has_every_layer(rules: ModelRules) -> None:
    assert [name for name, _ in open_model("hf:tiny-sentences", rules).layers] == list("0123")
    assert [name for name, _ in open_model("local:tiny-sentences", rules).layers] == list("0123")


def test_an_image_is_refused(rules: ModelRules) -> None:
    with pytest.raises(UnusableItem, match="not images"):
        open_model("st:tiny-sentences", rules).encode([b"\x89PNG"], ["embedding"])


def lose_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(dict(list(weights.items())[:-4]), folder / "model.safetensors", {"format": "pt"})


def damage_the_projection(folder: Path) -> None:
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"\x10")


def damage_the_list(folder: Path) -> None:
    (folder / "modules.json").write_text('{"0": "Transformer"}')


@pytest.mark.parametrize("damage", [lose_weights, damage_the_projection, damage_the_list], ids=lambda one: one.__name__)
def test_a_damaged_model_is_refused(
    damage: Callable[[Path], None], copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    damage(copy_of("tiny-sentences"))
    with pytest.raises((UnreadableFile, UnsupportedFormat), match="tiny-sentences") as caught:
        open_model("st:tiny-sentences", ModelRules(folders=(tmp_path,)))
    assert str(tmp_path) not in str(caught.value)
