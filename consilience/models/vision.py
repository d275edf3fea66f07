"""Models of the kind `timm:`: vision models, with a layer for each block or stage and one for the final embedding."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from consilience.contract.datasets import ViewKind
from consilience.contract.models import Pooling
from consilience.contract.records import ModelRecord
from consilience.errors import InvalidRequest, UnreadableFile
from consilience.models.base import Encoded, ModelInput, find_layer_indices, library_versions
from consilience.models.files import ModelSource
from consilience.models.pixels import decode_image
from consilience.models.torchvision_ops import patch_torchvision
from consilience.models.transformer import report_loading_errors

#: Name of the last layer: the model's own pooling of the last block.
POOLED = "pooled"
#: Memory for the layers of a batch of images.
STATES_BYTES = 256 * 2**20
IMAGES_PER_THREAD, IMAGES_GPU = 4, 256


class VisionModel:
    """A loaded vision model of timm.

    Layers are named as in the model (``blocks.0``, ``stages.1``, ``layer4``), each pooled to one vector per image; the last
    one, ``pooled``, is pooled and normalised by the model itself.

    Parameters
    ----------
    source : ModelSource
        Folder of the model, with config.json and model.safetensors.
    pooling : Pooling
        mean: over the patches, or the positions of a feature map. cls: the class token. auto: the class token if the model
        itself uses it, else the mean.
    device : str
        Name of a torch device.
    """

    kinds: frozenset[ViewKind] = frozenset({"image"})

    def __init__(self, source: ModelSource, pooling: Pooling, device: str) -> None:
        self._device = torch.device(device)
        if not (source.folder / "model.safetensors").is_file():  # timm would load a pickle rather than another name
            raise UnreadableFile(
                f"The folder of {source.name} has no file model.safetensors.",
                value=source.name,
                hint="Download the model again, or convert its weights to safetensors.",
            )
        with report_loading_errors(source):
            self._model, self._prepare, preparation = _load(source, self._device)
            self._pooling = _choose_pooling(self._model, pooling, source)
            states, pooled = self._forward(torch.zeros((1, *preparation["input_size"])))
        self.layers = _name_layers(self._model, [int(rows.shape[1]) for rows in (*self._pool(states), pooled)])
        self._images = self._count_images(states)
        self.record = ModelRecord(
            model=source.name,
            revision=source.revision,
            pooling=self._pooling,
            preparation={name: str(value) for name, value in preparation.items()} | {"background": "white"},
            dtype=str(next(self._model.parameters()).dtype).removeprefix("torch."),
            libraries=library_versions("torch", "timm", "torchvision", "pillow"),
            device=str(self._device),
        )

    def encode(self, items: Sequence[ModelInput], layers: Sequence[str]) -> Encoded:
        """See `EmbeddingModel.encode`."""
        indices = find_layer_indices(self.layers, layers)
        rows = tuple(np.empty((len(items), self.layers[index][1]), np.float32) for index in indices)
        for start in range(0, len(items), self._images):
            part = items[start : start + self._images]
            images = [self._prepare(decode_image(item, start + offset)) for offset, item in enumerate(part)]
            states, pooled = self._forward(torch.stack(images))
            outputs = [*self._pool(states), pooled]
            for matrix, index in zip(rows, indices, strict=True):
                matrix[start : start + len(part)] = outputs[index].float().cpu().numpy()
        return Encoded(rows)

    def _forward(self, images: torch.Tensor) -> tuple[list[Any], torch.Tensor]:
        """Return the output of each block (b, d, h, w), with its prefix tokens for the pooling cls, and the final embedding."""
        prefix = {"return_prefix_tokens": True} if self._pooling == "cls" else {}
        with torch.inference_mode():
            final, states = self._model.forward_intermediates(images.to(self._device), **prefix)
            return states, self._model.forward_head(final, pre_logits=True)

    def _pool(self, states: list[Any]) -> list[torch.Tensor]:
        if self._pooling == "cls":
            return [tokens[:, 0] for _, tokens in states]
        return [state.mean((2, 3)) for state in states]

    def _count_images(self, states: list[Any]) -> int:
        """Return the number of images per batch, so that all of their layers fit into memory."""
        maps = [state[0] if self._pooling == "cls" else state for state in states]
        each: int = sum(state.numel() * state.element_size() for state in maps)
        most = IMAGES_PER_THREAD * torch.get_num_threads() if self._device.type == "cpu" else IMAGES_GPU
        return min(most, max(1, STATES_BYTES // each))


def _name_layers(model: Any, dims: Sequence[int]) -> tuple[tuple[str, int], ...]:
    info = getattr(model, "feature_info", [])
    names = [str(each["module"]) for each in getattr(info, "info", info)]
    if len(names) != len(dims) - 1 or len(set(names)) < len(names):
        names = [str(index) for index in range(len(dims) - 1)]
    return tuple(zip([*names, POOLED], dims, strict=True))


def _load(
    source: ModelSource, device: torch.device
) -> tuple[Any, Callable[[Image.Image], torch.Tensor], dict[str, Any]]:
    patch_torchvision()
    from timm import create_model  # noqa: PLC0415 - torchvision must be patched before
    from timm.data.config import resolve_model_data_config  # noqa: PLC0415 - the same
    from timm.data.transforms_factory import create_transform  # noqa: PLC0415 - the same

    model = create_model(f"local-dir:{source.folder}", pretrained=True).eval().to(device)
    preparation = resolve_model_data_config(model)
    return model, create_transform(**preparation, is_training=False), preparation


def _choose_pooling(model: Any, pooling: Pooling, source: ModelSource) -> str:
    tokens = getattr(model, "num_prefix_tokens", 0)
    has_class = bool(tokens) and getattr(model, "has_class_token", True)
    if pooling == "cls" and not has_class:
        raise InvalidRequest(
            f"{source.name} has no class token, which the pooling `cls` needs.",
            value=pooling,
            limit=["auto", "mean"],
            hint="Use the pooling `mean` or `auto`.",
        )
    if pooling == "auto":
        return "cls" if has_class and getattr(model, "global_pool", None) == "token" else "mean"
    return pooling
