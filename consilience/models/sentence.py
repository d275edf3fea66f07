"""`st:`: a model of sentence-transformers, with its own pooling, projection and normalisation."""

from collections.abc import Sequence
from typing import Any

import torch

from consilience.contract.datasets import ViewKind
from consilience.contract.records import ModelRecord
from consilience.errors import UnsupportedFormat
from consilience.models.base import Encoded, Item, find_layer_indices, library_versions
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

#: What the model gives is one layer.
LAYER = "embedding"


class SentenceModel:
    """A model of sentence-transformers in memory; its only layer is what its `encode` gives.

    Parameters
    ----------
    source : Source
        Its folder.
    max_length : int or None
        Tokens of a text; None: as many as its makers say.
    device : str
        As torch names it.
    """

    kinds: frozenset[ViewKind] = frozenset({"text", "code"})

    def __init__(self, source: ModelSource, max_length: int | None, device: str) -> None:
        place = torch.device(device)
        with report_loading_errors(source):
            self._model = _load(source, place)
            self._prompt = self._model.prompts.get(self._model.default_prompt_name or "") or ""
            self._extra = _measure_prompt(self._model, self._prompt)
            dim = self._embed(*torch.ones((2, 1, 1), dtype=torch.long, device=place)).shape[-1]
        check_tokenizer(self._model.tokenizer, source.name)
        own = self._model.max_seq_length or LENGTH_DEFAULT
        length = own if max_length is None else check_length(source, max_length, self._model.tokenizer, own)
        dtype = next(self._model.parameters()).dtype
        known = count_vocabulary(self._model[0].auto_model)
        self._reader = TextEncoder(
            self._model.tokenizer, length, count_batch_tokens(place, dim * dtype.itemsize), place, known
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
            device=str(place),
        )

    def encode(self, items: Sequence[Item], layers: Sequence[str]) -> Encoded:
        """See `Model.encode`."""
        asked = len(find_layer_indices(self.layers, layers))
        texts = [self._prompt + item if isinstance(item, str) else item for item in items]
        return self._reader.encode(
            texts, [self.layers[0][1]] * asked, lambda ids, mask: [self._embed(ids, mask)] * asked
        )

    def _embed(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            answer = self._model({"input_ids": ids, "attention_mask": mask, **self._extra})
        embedding: torch.Tensor = answer["sentence_embedding"]
        return embedding


def _load(source: ModelSource, device: torch.device) -> Any:
    load_transformer(source, torch.device("cpu"))  # sentence-transformers does not say which weights are missing
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - torchvision must be mended before
    from sentence_transformers.base.modules import Transformer  # noqa: PLC0415 - the same

    model = SentenceTransformer(
        str(source.folder),
        device=str(device),
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True, "dtype": torch.float32 if device.type == "cpu" else "auto"},
    )
    if not isinstance(model[0], Transformer) or "text" not in model[0].modality_config:
        raise UnsupportedFormat(f"{source.name} is no transformer that reads text.", value=type(model[0]).__name__)
    return model.eval()


def _measure_prompt(model: Any, prompt: str) -> dict[str, int]:
    """The prompt's tokens, which some models leave out of their mean."""
    return {"prompt_length": model.preprocess(["x"], prompt=prompt)["prompt_length"]} if prompt else {}
