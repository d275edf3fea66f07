"""Models of the kind `st:`: sentence-transformers models, with their own pooling, projection and normalisation."""

from collections.abc import Sequence
from typing import Any

import torch

from consilience.contract.datasets import ViewKind
from consilience.contract.records import ModelRecord
from consilience.errors import UnsupportedFormat
from consilience.models.base import Encoded, ModelInput, find_layer_indices, library_versions
from consilience.models.files import ModelSource
from consilience.models.transformer import (
    LENGTH_DEFAULT,
    TextEncoder,
    check_length,
    check_tokenizer,
    count_batch_tokens,
    count_vocabulary,
    load_transformer,
    report_loading_errors,
)

#: Name of the only layer.
LAYER = "embedding"


class SentenceModel:
    """A loaded sentence-transformers model; its only layer is the result of the library's `encode`.

    Parameters
    ----------
    source : ModelSource
        Folder of the model.
    max_length : int or None
        Largest number of tokens of a text; None: the limit that the model declares.
    device : str
        Name of a torch device.
    """

    kinds: frozenset[ViewKind] = frozenset({"text", "code"})

    def __init__(self, source: ModelSource, max_length: int | None, device: str) -> None:
        torch_device = torch.device(device)
        with report_loading_errors(source):
            self._model = _load(source, torch_device)
            self._prompt = self._model.prompts.get(self._model.default_prompt_name or "") or ""
            self._extra = _measure_prompt(self._model, self._prompt)
            dim = self._embed(*torch.ones((2, 1, 1), dtype=torch.long, device=torch_device)).shape[-1]
        check_tokenizer(self._model.tokenizer, source.name)
        own = self._model.max_seq_length or LENGTH_DEFAULT
        length = own if max_length is None else check_length(source, max_length, self._model.tokenizer, own)
        dtype = next(self._model.parameters()).dtype
        vocabulary_size = count_vocabulary(self._model[0].auto_model)
        self._encoder = TextEncoder(
            self._model.tokenizer,
            length,
            count_batch_tokens(torch_device, dim * dtype.itemsize),
            torch_device,
            vocabulary_size,
        )
        self.layers = ((LAYER, dim),)
        self.record = ModelRecord(
            model=source.name,
            revision=source.revision,
            tokenizer=source.tokenizer,
            pooling="built_in",
            max_length=length,
            preparation={"prompt": self._prompt} if self._prompt else {},
            dtype=str(dtype).removeprefix("torch."),
            libraries=library_versions("torch", "transformers", "tokenizers", "sentence-transformers"),
            device=str(torch_device),
        )

    def encode(self, items: Sequence[ModelInput], layers: Sequence[str]) -> Encoded:
        """See `EmbeddingModel.encode`."""
        copies = len(find_layer_indices(self.layers, layers))
        texts = [self._prompt + item if isinstance(item, str) else item for item in items]
        return self._encoder.encode(
            texts, [self.layers[0][1]] * copies, lambda ids, mask: [self._embed(ids, mask)] * copies
        )

    def _embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            output = self._model({"input_ids": ids, "attention_mask": mask, **self._extra})
        embedding: torch.Tensor = output["sentence_embedding"]
        return embedding


def _load(source: ModelSource, device: torch.device) -> Any:
    load_transformer(source, torch.device("cpu"))  # sentence-transformers does not say which weights are missing
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - torchvision must be patched before
    from sentence_transformers.base.modules import Transformer  # noqa: PLC0415 - the same

    model = SentenceTransformer(
        str(source.folder),
        device=str(device),
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True, "dtype": torch.float32 if device.type == "cpu" else "auto"},
    )
    if not isinstance(model[0], Transformer) or "text" not in model[0].modality_config:
        raise UnsupportedFormat(
            f"The first module of {source.name} is not a text transformer.", value=type(model[0]).__name__
        )
    return model.eval()


def _measure_prompt(model: Any, prompt: str) -> dict[str, int]:
    """Return the number of the prompt's tokens, which some models exclude from their mean."""
    return {"prompt_length": model.preprocess(["x"], prompt=prompt)["prompt_length"]} if prompt else {}
