"""Every layer and pooling of a transformer against a loop over the texts, one at a time."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel

from consilience.contract.models import Pooling
from consilience.errors import InvalidRequest, UnknownLayer, UnreadableFile, UnsupportedFormat
from consilience.models import transformer
from consilience.models.base import UnusableItem
from consilience.models.registry import open_model
from consilience.models.rules import ModelRules
from tests.models.conftest import POSITIONS, TEXTS, hidden_states

PLAIN: dict[Pooling, Callable[[torch.Tensor], torch.Tensor]] = {
    "auto": lambda state: state.mean(0),
    "mean": lambda state: state.mean(0),
    "cls": lambda state: state[0],
    "last": lambda state: state[-1],
}


@pytest.mark.parametrize("pooling", PLAIN)
@pytest.mark.parametrize(("name", "layers"), [("tiny-bert", 4), ("tiny-gpt", 3), ("tiny-t5", 3)])
def test_every_layer_equals_that_of_each_text_alone(
    name: str, layers: int, pooling: Pooling, rules: ModelRules, folders: Path
) -> None:
    model = open_model(f"hf:{name}", rules, pooling=pooling)
    names = [layer for layer, _ in model.layers]
    assert names == [str(place) for place in range(layers)]
    encoded = model.encode(TEXTS, names)
    plain, tokenizer = AutoModel.from_pretrained(folders / name), AutoTokenizer.from_pretrained(folders / name)
    plain = plain.get_encoder().eval() if name == "tiny-t5" else plain.eval()
    for row, text in enumerate(TEXTS):
        states = hidden_states(plain, tokenizer(text, truncation=True, max_length=POSITIONS)["input_ids"])
        for matrix, state in zip(encoded.rows, states, strict=True):
            np.testing.assert_allclose(matrix[row], PLAIN[pooling](state).numpy(), rtol=1e-4, atol=1e-5)


def test_layers_are_returned_in_the_requested_order(rules: ModelRules) -> None:
    model = open_model("hf:tiny-bert", rules)
    both = model.encode(TEXTS, ["3", "0"]).rows
    np.testing.assert_array_equal(both[1], model.encode(TEXTS, ["0"]).rows[0])
    with pytest.raises(UnknownLayer, match="no layer '7'"):
        model.encode(TEXTS, ["7"])


def test_the_batch_size_does_not_change_the_rows(rules: ModelRules, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_model("hf:tiny-bert", rules).encode(TEXTS, ["3"]).rows[0]
    monkeypatch.setattr(transformer, "TOKENS_PER_THREAD", 1)
    np.testing.assert_allclose(open_model("hf:tiny-bert", rules).encode(TEXTS, ["3"]).rows[0], whole, atol=1e-5)


def test_longer_texts_are_truncated_and_counted(rules: ModelRules) -> None:
    model = open_model("hf:tiny-bert", rules)
    assert model.record.max_length == POSITIONS
    assert model.encode(TEXTS, ["0"]).truncated == 1
    shorter = open_model("hf:tiny-bert", rules, max_length=12)
    assert shorter.record.max_length == 12
    assert shorter.encode(TEXTS, ["0"]).truncated == 3
    with pytest.raises(InvalidRequest, match="at most 48 tokens"):
        open_model("hf:tiny-bert", rules, max_length=49)


def test_a_text_without_tokens_is_refused_with_its_index(rules: ModelRules) -> None:
    with pytest.raises(UnusableItem, match="no tokens") as caught:
        open_model("hf:tiny-gpt", rules).encode(["one", "", "three"], ["0"])
    assert caught.value.index == 1
    # A class token is a token.
    assert np.isfinite(open_model("hf:tiny-bert", rules).encode([""], ["3"]).rows[0]).all()


def test_an_image_is_refused(rules: ModelRules) -> None:
    with pytest.raises(UnusableItem, match="not images"):
        open_model("hf:tiny-bert", rules).encode([b"\x89PNG"], ["0"])


def test_the_record_describes_how_to_reproduce_the_rows(rules: ModelRules) -> None:
    record = open_model("hf:tiny-gpt", rules, pooling="last").record
    assert (record.model, record.pooling, record.dtype, record.device) == ("hf:tiny-gpt", "last", "float32", "cpu")
    assert record.libraries.keys() == {"torch", "transformers", "tokenizers"}
    assert record.revision is not None
    assert record.tokenizer is not None
    assert record.revision.startswith("sha256:")
    assert record == open_model("hf:tiny-gpt", rules, pooling="last").record


def test_the_model_files_may_declare_fewer_tokens_than_positions(
    copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    (copy_of("tiny-bert") / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    assert open_model("hf:tiny-bert", ModelRules(folders=(tmp_path,))).record.max_length == 20
    assert open_model("hf:tiny-bert", ModelRules(folders=(tmp_path,)), max_length=40).record.max_length == 40


def test_positions_reserved_for_padding_are_not_used(folders: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(folders / "tiny-bert", model_max_length=10**30).save_pretrained(tmp_path / "roberta")
    config = RobertaConfig(
        vocab_size=200,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=20,
        pad_token_id=0,
    )
    RobertaModel(config).save_pretrained(tmp_path / "roberta")
    model = open_model("hf:roberta", ModelRules(folders=(tmp_path,)))
    assert model.record.max_length == 19
    assert model.encode(TEXTS, ["1"]).truncated == 3


def damage_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def damage_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def name_another_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))


def name_an_unknown_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "unheard-of"}))


def bring_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "ours.py").write_text("raise SystemExit('code of a model was run')")
    own = {"model_type": "ours", "auto_map": {"AutoConfig": "ours.Config", "AutoModel": "ours.Model"}}
    (folder / "config.json").write_text(json.dumps(config | own))


def lose_the_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [damage_weights, damage_config, name_another_model, name_an_unknown_kind, bring_code, lose_the_tokenizer],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_model_is_refused_without_the_servers_paths(
    damage: Callable[[Path], None], copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    damage(copy_of("tiny-bert"))
    with pytest.raises((UnreadableFile, UnsupportedFormat), match="tiny-bert") as caught:
        open_model("hf:tiny-bert", ModelRules(folders=(tmp_path,)))
    assert str(tmp_path) not in f"{caught.value} {caught.value.value}"
