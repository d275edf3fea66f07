"""Tiny models with random weights, saved as their libraries save real ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer, WordPieceTrainer

from consilience.models.rules import ModelRules
from consilience.models.torchvision_ops import patch_torchvision

patch_torchvision()

import timm  # noqa: E402 - patched now
from sentence_transformers import SentenceTransformer  # noqa: E402 - the same
from sentence_transformers.base.modules import Transformer  # noqa: E402 - the same
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling  # noqa: E402 - the same
from timm.models import save_for_hf  # noqa: E402 - the same
from transformers import (  # noqa: E402 - patched now  # noqa: E402 - the same
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)

TEXTS = (
    "Return the names of all files of a folder.",
    "Short.",
    "Close the connection, and wait until the other side has closed it too; then forget the socket.",
    "Parse a date.",
    "Whether the two numbers differ by less than the tolerance, which is relative to the larger of them.",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3,
)
#: Positions that the tiny models have: the last text is longer.
POSITIONS = 48
#: Apart, because a linter takes an argument of such a name for a password.
UNKNOWN, PADDING, END = {"unk_token": "[UNK]"}, {"pad_token": "[PAD]"}, {"eos_token": "<end>"}


def save_bert(folder: Path) -> None:
    """An encoder of three blocks with a class token, as BERT is."""
    tokenizer = Tokenizer(WordPiece(**UNKNOWN))
    tokenizer.pre_tokenizer = Whitespace()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(TEXTS, WordPieceTrainer(vocab_size=200, special_tokens=specials))
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **UNKNOWN, **PADDING)
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=200,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=POSITIONS,
            initializer_range=0.5,
        )
    ).save_pretrained(folder)


def save_gpt(folder: Path) -> None:
    """A decoder of two blocks without a padding token, as GPT-2 is."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        TEXTS, BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=ByteLevel.alphabet())
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **END)
    wrapped.save_pretrained(folder)
    torch.manual_seed(1)
    GPT2Model(
        GPT2Config(vocab_size=300, n_embd=24, n_layer=2, n_head=3, n_positions=POSITIONS, initializer_range=0.5)
    ).save_pretrained(folder)


def save_t5(bert: Path, folder: Path) -> None:
    """An encoder of two blocks, with an unused decoder, as T5 has."""
    AutoTokenizer.from_pretrained(bert).save_pretrained(folder)
    torch.manual_seed(4)
    T5Model(T5Config(vocab_size=200, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)).save_pretrained(folder)


def save_sentences(bert: Path, folder: Path, **prompts: Any) -> None:
    """A model of sentence-transformers: mean, projection, normalisation."""
    torch.manual_seed(2)
    words = Transformer(str(bert), max_seq_length=24)
    modules = [words, Pooling(32, pooling_mode="mean", include_prompt=False), Dense(32, 20), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", **prompts).save_pretrained(str(folder))


def save_vision(folder: Path, architecture: str, **shape: Any) -> None:
    """A vision model with random weights, as timm saves it."""
    torch.manual_seed(3)
    model = timm.create_model(architecture, pretrained=False, num_classes=5, **shape)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    save_for_hf(model, folder, model_args=shape, safe_serialization=True)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model per subfolder."""
    root = tmp_path_factory.mktemp("models")
    save_bert(root / "tiny-bert")
    save_gpt(root / "tiny-gpt")
    save_t5(root / "tiny-bert", root / "tiny-t5")
    save_sentences(root / "tiny-bert", root / "tiny-sentences")
    query = {"prompts": {"query": "Find what says: "}, "default_prompt_name": "query"}
    save_sentences(root / "tiny-bert", root / "tiny-prompted", **query)
    vit = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
    save_vision(root / "tiny-vit", "vit_tiny_patch16_224", **vit)
    save_vision(root / "tiny-siglip", "vit_base_patch16_siglip_224", **vit)
    save_vision(root / "tiny-resnet", "resnet10t", channels=(8, 12, 16, 20))
    save_vision(root / "tiny-convnext", "convnext_atto", depths=(1, 1, 2, 1), dims=(8, 12, 16, 20))
    return root


@pytest.fixture(scope="session")
def rules(folders: Path) -> ModelRules:
    return ModelRules(folders=(folders,))


@pytest.fixture
def copy_of(folders: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copy of a model's folder that a test may damage; `ModelRules(folders=(tmp_path,))` finds it by the same name."""

    def make(name: str) -> Path:
        import shutil

        return Path(shutil.copytree(folders / name, tmp_path / name))

    return make


def hidden_states(model: Any, ids: list[int]) -> list[torch.Tensor]:
    """Every hidden state (tokens, dim) of one text, alone and without padding."""
    with torch.inference_mode():
        return [state[0] for state in model(torch.tensor([ids]), output_hidden_states=True).hidden_states]
