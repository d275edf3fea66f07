"""Models of the kind `hf:`: text transformers, with a layer for each hidden state.

Texts are tokenized once, truncated at the model's limit and padded per batch; batches combine items of similar length, so
that little of a batch is padding. The vectors of an item's tokens are pooled to one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from consilience.contract.datasets import ViewKind
from consilience.contract.models import Pooling
from consilience.contract.records import ModelRecord
from consilience.errors import ConsilienceError, InvalidRequest, UnreadableFile, UnsupportedFormat
from consilience.models.base import Encoded, ModelInput, UnusableItem, find_layer_indices, library_versions
from consilience.models.files import ModelSource, read_json
from consilience.models.torchvision_ops import patch_torchvision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Positions = npt.NDArray[np.intp]


def plan_batches(lengths: Sequence[int], tokens: int, items: int) -> Iterator[Positions]:
    """Yield the item indices of each batch, longest items first, so that a lack of memory shows at once.

    Parameters
    ----------
    lengths : sequence of int
        Number of tokens of each item.
    tokens : int
        Largest number of tokens of a batch, padding included; a longer item becomes a batch of its own.
    items : int
        Largest number of items of a batch.
    """
    order = np.argsort(-np.asarray(lengths, np.intp), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, lengths[int(order[start])])
        stop = start + max(1, min(items, tokens // longest))
        yield order[start:stop]
        start = stop


PoolingFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def pool_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of the unmasked tokens: (b, t, d) and (b, t) give (b, d), summed in float32."""
    weights = mask.to(torch.float32)
    total = torch.bmm(weights.unsqueeze(1), hidden.to(torch.float32)).squeeze(1)
    return total / weights.sum(1, keepdim=True)


def pool_first(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - a Pool's signature
    """Return the first token, which is the class token if the model has one."""
    return hidden[:, 0]


def pool_last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the last unmasked token, which in a decoder attends to all others."""
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]


POOLING_FUNCTIONS: dict[str, PoolingFunction] = {"mean": pool_mean, "cls": pool_first, "last": pool_last}


#: Batch size for which a block's activations stay in a core's caches: with four times as many, a token takes twice as long.
TOKENS_PER_THREAD = 512
#: Smallest batch at which a GPU is fully used.
TOKENS_GPU = 65_536
BATCH_ITEMS_MAX = 1024
#: Memory for the hidden states of a batch.
STATES_BYTES = 256 * 2**20
#: Computes the rows of a batch for each requested layer, from its token ids and its mask, both (b, longest).
EncodeBatch = Callable[[torch.Tensor, torch.Tensor], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class TextEncoder:
    """Tokenizes texts and encodes them batch by batch.

    Attributes
    ----------
    tokenizer : the model's own tokenizer
    max_length : largest number of tokens of a text
    batch_tokens : largest number of tokens of a batch, padding included
    device : device of the model
    vocabulary_size : number of tokens that the model has a vector for; None if unknown
    """

    tokenizer: "PreTrainedTokenizerBase"
    max_length: int
    batch_tokens: int
    device: torch.device
    vocabulary_size: int | None = None

    def encode(self, items: Sequence[ModelInput], dims: Sequence[int], step: EncodeBatch) -> Encoded:
        """Return the rows of the texts for layers with the given dims; `step` encodes a batch."""
        tokens = tokenize(self.tokenizer, items, self.max_length)
        self._check_vocabulary(tokens.ids)
        rows = tuple(np.empty((len(items), dim), np.float32) for dim in dims)
        pad_id = self.tokenizer.pad_token_id or 0
        with torch.inference_mode():
            for batch in plan_batches([len(ids) for ids in tokens.ids], self.batch_tokens, BATCH_ITEMS_MAX):
                ids, mask = pad([tokens.ids[index] for index in batch], pad_id)
                outputs = step(ids.to(self.device), mask.to(self.device))
                for matrix, part in zip(rows, outputs, strict=True):
                    matrix[batch] = part.float().cpu().numpy()
        return Encoded(rows, tokens.truncated)

    def _check_vocabulary(self, ids: Sequence[Sequence[int]]) -> None:
        """Refuse a token beyond the model's vocabulary: on a GPU, its lookup would end the whole process."""
        largest = max(map(max, ids), default=0)
        if self.vocabulary_size is not None and largest >= self.vocabulary_size:
            raise UnreadableFile(
                f"The tokenizer produces token {largest}, but the model has only {self.vocabulary_size} tokens.",
                value=largest,
                limit=self.vocabulary_size - 1,
                hint="The tokenizer's files belong to another model: download the model again.",
            )


def count_batch_tokens(device: torch.device, bytes_per_token: int) -> int:
    """Return the number of tokens per batch, so that all of their hidden states fit into memory."""
    most = TOKENS_PER_THREAD * torch.get_num_threads() if device.type == "cpu" else TOKENS_GPU
    return min(most, max(1, STATES_BYTES // bytes_per_token))


@dataclass(frozen=True)
class Tokens:
    """Tokens of some texts.

    Attributes
    ----------
    ids : the token ids of each text
    truncated : number of texts that were truncated
    """

    ids: list[list[int]]
    truncated: int


def check_tokenizer(tokenizer: "PreTrainedTokenizerBase", identifier: str) -> None:
    """Refuse a tokenizer that does not report truncation, and one that the library made up without files."""
    if not tokenizer.is_fast:
        raise UnsupportedFormat(
            f"{identifier} has no tokenizer.json.",
            value=type(tokenizer).__name__,
            hint="Save the tokenizer with use_fast=True into the model's folder.",
        )
    names = ("tokenizer.json", *tokenizer.vocab_files_names.values())
    if not any((Path(tokenizer.name_or_path) / name).exists() for name in names):
        raise UnreadableFile(
            f"{identifier} has no tokenizer files, without which all words would be the same token.",
            value=names[0],
            hint=f"Put the tokenizer's files into the model's folder: {' or '.join(dict.fromkeys(names))}.",
        )


def tokenize(tokenizer: "PreTrainedTokenizerBase", items: Sequence[ModelInput], max_length: int) -> Tokens:
    """Tokenize texts, with at most `max_length` tokens each, special tokens included.

    Raises
    ------
    UnusableItem
        An item is not a text, or has no tokens.
    """
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise UnusableItem("The model embeds texts, not images.", index=index)
    encoded = tokenizer(
        list(items), truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    for index, row in enumerate(ids):
        if not row:
            raise UnusableItem("The text has no tokens.", index=index, value=items[index], hint="Remove the item.")
    truncated = sum(bool(encoding.overflowing) for encoding in encoded.encodings or ())
    return Tokens(ids, truncated)


def pad(rows: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and mask (b, longest), with padding at the end, where it changes no position."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids, mask


#: Part of the error of transformers for weights with the wrong shapes.
MISMATCHED_SHAPES = "ignore_mismatched_sizes"
CUSTOM_CODE_HINT = "The model comes with its own code, which is never run: choose a model that the library supports."
DAMAGED_HINT = "The model's files are damaged, or the library does not support this kind of model."
#: Largest number of tokens of a text if the model declares no limit.
LENGTH_DEFAULT = 2048


class TransformerModel:
    """A loaded transformer; layer "0" is the input of its first block, the last layer is its output.

    Parameters
    ----------
    source : ModelSource
        Folder of the model.
    pooling : Pooling
        auto: the mean of the tokens.
    max_length : int or None
        Largest number of tokens of a text; None: the model's own limit.
    device : str
        Name of a torch device.
    """

    kinds: frozenset[ViewKind] = frozenset({"text", "code"})

    def __init__(self, source: ModelSource, pooling: Pooling, max_length: int | None, device: str) -> None:
        torch_device = torch.device(device)
        with report_loading_errors(source):
            self._model, tokenizer = load_transformer(source, torch_device)
            dims = self._measure_dims(torch_device)
        check_tokenizer(tokenizer, source.name)
        length = _find_length(source, tokenizer, self._model, max_length)
        self._encoder = TextEncoder(
            tokenizer,
            length,
            count_batch_tokens(torch_device, sum(dims) * self._model.dtype.itemsize),
            torch_device,
            count_vocabulary(self._model),
        )
        self._pooling = "mean" if pooling == "auto" else pooling
        self.layers = tuple((str(layer), dim) for layer, dim in enumerate(dims))
        self.record = ModelRecord(
            model=source.name,
            revision=source.revision,
            tokenizer=source.tokenizer,
            pooling=self._pooling,
            max_length=length,
            dtype=str(self._model.dtype).removeprefix("torch."),
            libraries=library_versions("torch", "transformers", "tokenizers"),
            device=str(torch_device),
        )

    def encode(self, items: Sequence[ModelInput], layers: Sequence[str]) -> Encoded:
        """See `EmbeddingModel.encode`."""
        indices = find_layer_indices(self.layers, layers)
        pool = POOLING_FUNCTIONS[self._pooling]

        def step(ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
            states = self._run(ids, mask)
            return [pool(states[index], mask) for index in indices]

        return self._encoder.encode(items, [self.layers[index][1] for index in indices], step)

    def _run(self, ids: torch.Tensor, mask: torch.Tensor) -> Sequence[torch.Tensor]:
        extra = {"use_cache": False} if getattr(self._model.config, "use_cache", False) else {}
        output = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True, **extra)
        states: Sequence[torch.Tensor] = output.hidden_states
        return states

    def _measure_dims(self, device: torch.device) -> list[int]:
        """Return the layers' dims by a forward pass, because they can differ from the model's configuration."""
        with torch.inference_mode():
            one = torch.ones((1, 1), dtype=torch.long, device=device)
            return [int(state.shape[-1]) for state in self._run(one, one)]


@contextmanager
def report_loading_errors(source: ModelSource) -> Iterator[None]:
    """Turn a library's error about damaged files into UnreadableFile, without the server's paths."""
    try:
        yield
    except (ConsilienceError, ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # libraries raise unrelated classes for damaged files
        reason = str(error).strip().partition("\n")[0].replace(str(source.folder), source.name)
        if MISMATCHED_SHAPES in reason:
            reason = "its weights have other shapes than its config.json declares"
        elif isinstance(error, KeyError):
            reason = f"its config.json lacks {reason}"
        raise UnreadableFile(
            f"{source.name} cannot be loaded: {reason.rstrip('.') or type(error).__name__}.",
            value=source.name,
            hint=CUSTOM_CODE_HINT if _has_code(source) else DAMAGED_HINT,
        ) from error


def _has_code(source: ModelSource) -> bool:
    config = source.folder / "config.json"
    content = read_json(config, source.name) if config.is_file() else None
    return isinstance(content, dict) and "auto_map" in content


def check_missing_weights(source: ModelSource, missing: Sequence[str]) -> None:
    """Refuse a model whose files lack weights, because the library would fill them with random numbers."""
    needed = sorted(name for name in missing if "pooler." not in name)  # the pooler follows the hidden states
    if needed:
        raise UnreadableFile(
            f"The files of {source.name} lack {len(needed)} weights, for example {needed[0]}.",
            value=needed[0],
            hint="The files are damaged, or config.json belongs to another model: download the model again.",
        )


def load_transformer(source: ModelSource, device: torch.device) -> tuple[Any, Any]:
    """Load the model, without the head after its last block, and its tokenizer."""
    patch_torchvision()
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - torchvision must be patched before
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
    check_missing_weights(source, loading["missing_keys"])
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    tokenizer = AutoTokenizer.from_pretrained(source.folder, **safely)
    return model.eval().to(device), tokenizer


def count_vocabulary(model: Any) -> int | None:
    """Return the number of tokens that the model has a vector for; None if unknown."""
    try:
        return getattr(model.get_input_embeddings(), "num_embeddings", None)
    except NotImplementedError:
        return None


def check_length(source: ModelSource, requested: int, tokenizer: Any, longest: int | None) -> int:
    """Return the requested length if it leaves room for text and does not exceed the model's limit."""
    special = tokenizer.num_special_tokens_to_add()
    if requested <= special:
        raise InvalidRequest(
            f"A max_length of {requested} leaves no token for text: {source.name} adds {special} special tokens.",
            value=requested,
            limit=special + 1,
            hint=f"Set max_length to at least {special + 1}, or leave it out.",
            pointer="/max_length",
        )
    if longest is not None and requested > longest:
        raise InvalidRequest(
            f"A max_length of {requested} is too large: {source.name} reads at most {longest} tokens.",
            value=requested,
            limit=longest,
            hint=f"Set max_length to at most {longest}, or leave it out.",
            pointer="/max_length",
        )
    return requested


def _count_positions(model: Any) -> int | None:
    """Return the number of tokens that the model has positions for, without those up to the padding's (RoBERTa)."""
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    unused = getattr(table, "padding_idx", None)
    return positions if positions is None or unused is None else positions - unused - 1


def _find_length(source: ModelSource, tokenizer: Any, model: Any, requested: int | None) -> int:
    """Return the largest number of tokens of a text: the model's limit, or a lower one of its files or the request."""
    limits = [limit for limit in (tokenizer.model_max_length, _count_positions(model)) if limit and limit < 10**6]
    longest = min(limits, default=None)
    if requested is not None:
        return check_length(source, requested, tokenizer, longest)
    file = source.folder / "sentence_bert_config.json"
    config = read_json(file, source.name) if file.exists() else {}
    own = config.get("max_seq_length") if isinstance(config, dict) else None
    return min([*limits, *([own] if isinstance(own, int) and own > 0 else [])], default=LENGTH_DEFAULT)
