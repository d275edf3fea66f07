"""`hf:`: a transformer that reads text, and every one of its hidden states."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from consilience.contract.datasets import ViewKind
from consilience.contract.models import ModelRecord, Pooling
from consilience.errors import ConsilienceError, InvalidRequest, UnreadableFile
from consilience.models.batches import plan_batches
from consilience.models.extras import versions
from consilience.models.model import Encoded, Item, find_layers
from consilience.models.pooling import POOLS
from consilience.models.sources import Source, read_json
from consilience.models.tokens import check_tokenizer, pad, tokenise
from consilience.models.torchvision_ops import mend_torchvision

#: What the hidden states of a batch may take.
STATES_BYTES = 256 * 2**20
#: A longer batch is no faster on a processor, a shorter one on a card is slower.
TOKENS_CPU, TOKENS_CARD = 4096, 65_536
ITEMS = 1024
#: Of a text whose model names no limit.
LENGTH_UNKNOWN = 2048


class Transformer:
    """A transformer in memory; layer "0" is what goes into its first block, the last one is what it puts out.

    Parameters
    ----------
    source : Source
        Its folder.
    pooling : Pooling
        auto: the mean of the tokens.
    max_length : int or None
        Tokens of a text; None: as many as the model is meant for.
    device : str
        As torch names it.
    """

    kinds: frozenset[ViewKind] = frozenset({"text", "code"})

    def __init__(self, source: Source, pooling: Pooling, max_length: int | None, device: str) -> None:
        self._device = torch.device(device)
        with reading(source):
            self._model, self._tokenizer = _load(source, self._device)
        check_tokenizer(self._tokenizer, source.name)
        self._length = _find_length(source, self._tokenizer, self._model, max_length)
        self._pooling = "mean" if pooling == "auto" else pooling
        self._pad_id = self._tokenizer.pad_token_id or 0
        dims = self._measure()
        self.layers = tuple((str(place), dim) for place, dim in enumerate(dims))
        most = TOKENS_CPU if self._device.type == "cpu" else TOKENS_CARD
        self._tokens = min(most, max(1, STATES_BYTES // (sum(dims) * self._model.dtype.itemsize)))
        self.record = ModelRecord(
            model=source.name,
            revision=source.revision,
            tokenizer=source.tokenizer,
            pooling=self._pooling,
            max_length=self._length,
            dtype=str(self._model.dtype).removeprefix("torch."),
            libraries=versions("torch", "transformers", "tokenizers"),
            device=str(self._device),
        )

    def encode(self, items: Sequence[Item], layers: Sequence[str]) -> Encoded:
        """See `Model.encode`."""
        places = find_layers(self.layers, layers)
        tokens = tokenise(self._tokenizer, items, self._length)
        rows = tuple(np.empty((len(items), self.layers[place][1]), np.float32) for place in places)
        pool = POOLS[self._pooling]
        with torch.inference_mode():
            for batch in plan_batches(tokens.lengths, self._tokens, ITEMS):
                ids, mask = (each.to(self._device) for each in pad([tokens.ids[at] for at in batch], self._pad_id))
                states = self._run(ids, mask)
                for place, matrix in zip(places, rows, strict=True):
                    matrix[batch] = pool(states[place], mask).float().cpu().numpy()
        return Encoded(rows, tokens.truncated)

    def _run(self, ids: torch.Tensor, mask: torch.Tensor) -> Sequence[torch.Tensor]:
        extra = {"use_cache": False} if getattr(self._model.config, "use_cache", False) else {}
        answer = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True, **extra)
        states: Sequence[torch.Tensor] = answer.hidden_states
        return states

    def _measure(self) -> list[int]:
        """The layers' dims, asked of the model itself: they are not always those of its configuration."""
        with torch.inference_mode():
            one = torch.ones((1, 1), dtype=torch.long, device=self._device)
            return [int(state.shape[-1]) for state in self._run(one, one)]


@contextmanager
def reading(source: Source) -> Iterator[None]:
    """What a library says of damaged files, in our words and without the server's paths."""
    try:
        yield
    except ConsilienceError:
        raise
    except Exception as error:  # what libraries raise of damaged files is of no common class
        said = str(error).strip().partition("\n")[0].replace(str(source.folder), source.name)
        raise UnreadableFile(
            f"{source.name} cannot be loaded: {said or type(error).__name__}",
            value=source.name,
            hint="Its files are damaged, or its kind is not known to the library that reads it.",
        ) from error


def check_missing(source: Source, missing: Sequence[str]) -> None:
    """Weights that are not in the files would be random ones."""
    needed = sorted(name for name in missing if "pooler." not in name)  # the pooler follows the hidden states
    if needed:
        raise UnreadableFile(
            f"The files of {source.name} lack {len(needed)} weights, {needed[0]} among them.",
            value=needed[0],
            hint="The files are damaged, or their configuration is another model's.",
        )


def _load(source: Source, device: torch.device) -> tuple[Any, Any]:
    mend_torchvision()
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - torchvision must be mended before
    from transformers.utils import logging  # noqa: PLC0415 - the same

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    safely = {"local_files_only": True, "trust_remote_code": False}
    model, loading = AutoModel.from_pretrained(
        source.folder,
        use_safetensors=True,
        output_loading_info=True,
        dtype=torch.float32 if device.type == "cpu" else "auto",
        **safely,
    )
    check_missing(source, loading["missing_keys"])
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    tokenizer = AutoTokenizer.from_pretrained(source.folder, **safely)
    return model.eval().to(device), tokenizer


def _find_length(source: Source, tokenizer: Any, model: Any, asked: int | None) -> int:
    """Tokens that are read of a text: the model's own limit, or less where its makers or the request say so."""
    table = getattr(model.config, "max_position_embeddings", None)
    limits = [limit for limit in (tokenizer.model_max_length, table) if limit and limit < 10**6]
    longest = min(limits, default=None)
    if asked is not None:
        if longest is not None and asked > longest:
            raise InvalidRequest(f"{source.name} reads at most {longest} tokens.", value=asked, limit=longest)
        return asked
    file = source.folder / "sentence_bert_config.json"
    meant = read_json(file, source.name) if file.exists() else {}
    own = meant.get("max_seq_length") if isinstance(meant, dict) else None
    return min([*limits, *([own] if isinstance(own, int) and own > 0 else [])], default=LENGTH_UNKNOWN)
