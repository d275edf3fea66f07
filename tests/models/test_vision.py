"""Every block or stage of a vision model against hooks on the plain model, one image at a time."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from consilience.contract.models import Pooling
from consilience.errors import InvalidRequest, UnreadableFile
from consilience.models import vision
from consilience.models.base import UnusableItem
from consilience.models.registry import open_model
from consilience.models.rules import ModelRules

MODELS = {
    "tiny-vit": ["blocks.0", "blocks.1", "blocks.2"],
    "tiny-siglip": ["blocks.0", "blocks.1", "blocks.2"],
    "tiny-resnet": ["act1", "layer1", "layer2", "layer3", "layer4"],
    "tiny-convnext": ["stages.0", "stages.1", "stages.2", "stages.3"],
}


def draw(seed: int, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


PICTURES = [draw(0, (40, 40)), draw(1, (64, 30)), draw(2, (33, 90))]


def encode(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def look(folder: Path, names: list[str], image: Image.Image) -> list[torch.Tensor]:
    """Outputs of the named modules of the plain model for one image, and its embedding."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[Any, Any, torch.Tensor], None]:
        return lambda _module, _inputs, output: found.update({name: output})

    for name in names:
        model.get_submodule(name).register_forward_hook(keep(name))
    with torch.inference_mode():
        embedding = model.forward_head(model.forward_features(transform(image).unsqueeze(0)), pre_logits=True)
    return [*(found[name][0] for name in names), embedding[0]]


def pool(state: torch.Tensor, pooling: str, prefix: int) -> torch.Tensor:
    if state.ndim == 3:
        return state.mean((1, 2))
    return state[0] if pooling == "cls" else state[prefix:].mean(0)


@pytest.mark.parametrize(
    ("name", "pooling", "used"),
    [
        ("tiny-vit", "auto", "cls"),
        ("tiny-vit", "cls", "cls"),
        ("tiny-vit", "mean", "mean"),
        ("tiny-siglip", "auto", "mean"),
        ("tiny-resnet", "auto", "mean"),
        ("tiny-convnext", "mean", "mean"),
    ],
)
def test_every_layer_equals_that_of_each_image_alone(
    name: str, pooling: Pooling, used: str, rules: ModelRules, folders: Path
) -> None:
    model = open_model(f"timm:{name}", rules, pooling=pooling)
    assert [layer for layer, _ in model.layers] == [*MODELS[name], "pooled"]
    assert model.record.pooling == used
    encoded = model.encode([encode(image) for image in PICTURES], [layer for layer, _ in model.layers])
    for row, image in enumerate(PICTURES):
        *states, embedding = look(folders / name, MODELS[name], image)
        expected = [*(pool(state, used, int(name == "tiny-vit")) for state in states), embedding]
        for matrix, each in zip(encoded.rows, expected, strict=True):
            np.testing.assert_allclose(matrix[row], each, rtol=1e-3, atol=1e-4 * float(each.abs().max()))


def test_the_batch_size_does_not_change_the_rows(rules: ModelRules, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [encode(image) for image in PICTURES]
    monkeypatch.setattr(vision.torch, "get_num_threads", lambda: 2)
    whole = open_model("timm:tiny-vit", rules).encode(pictures, ["blocks.2"]).rows[0]
    monkeypatch.setattr(vision, "IMAGES_PER_THREAD", 1)
    parts = open_model("timm:tiny-vit", rules).encode(pictures, ["blocks.2"]).rows[0]
    np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-4)


def test_the_record_describes_the_preparation_of_images(rules: ModelRules) -> None:
    record = open_model("local:tiny-vit", rules).record
    assert record.preparation["input_size"] == "(3, 32, 32)"
    assert {"mean", "std", "interpolation", "crop_pct", "background"} <= record.preparation.keys()
    assert record.libraries.keys() == {"torch", "timm", "torchvision", "pillow"}
    assert record == open_model("local:tiny-vit", rules, pooling="cls").record


def test_only_a_model_with_a_class_token_has_one(rules: ModelRules) -> None:
    for name in ("tiny-siglip", "tiny-resnet"):
        with pytest.raises(InvalidRequest, match="no class token"):
            open_model(f"timm:{name}", rules, pooling="cls")
    with pytest.raises(InvalidRequest, match="pooling"):
        open_model("local:tiny-vit", rules, pooling="last")


def test_an_item_that_is_not_an_image_is_refused_with_its_index(rules: ModelRules) -> None:
    with pytest.raises(UnusableItem) as caught:
        open_model("timm:tiny-vit", rules).encode([encode(PICTURES[0], "JPEG"), encode(PICTURES[0], "GIF")], ["pooled"])
    assert caught.value.index == 1


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def rename(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"")


def deepen(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["depth"] = 4
    (folder / "config.json").write_text(json.dumps(config))


def invent(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architecture": "vit_of_dreams"}))


@pytest.mark.parametrize("damage", [truncate, rename, deepen, invent], ids=lambda one: one.__name__)
def test_a_damaged_model_is_refused(
    damage: Callable[[Path], None], copy_of: Callable[[str], Path], tmp_path: Path
) -> None:
    damage(copy_of("tiny-vit"))
    with pytest.raises(UnreadableFile, match="tiny-vit") as caught:
        open_model("timm:tiny-vit", ModelRules(folders=(tmp_path,)))
    assert str(tmp_path) not in str(caught.value)
