"""`hf:`: a transformer that reads text, and every one of its hidden states."""

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
from consilience.models.base import Encoded, Item, UnusableItem, find_layer_indices, library_versions
from consilience.models.files import ModelSource, read_json
from consilience.models.torchvision_ops import patch_torchvision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Positions = npt.NDArray[np.intp]


def plan_batches(lengths: Sequence[int], tokens: int, items: int) -> Iterator[Positions]:
    """Where the items of each batch stand, longest first: what is too much for memory fails at once.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each item.
    tokens : int
        What a batch may have with its padding; a longer item is a batch alone.
    items : int
        Items of a batch, at most.
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
    """The mean of the tokens under the mask: (b, t, d) and (b, t) give (b, d), summed in float32."""
    weights = mask.to(torch.float32)
    total = torch.bmm(weights.unsqueeze(1), hidden.to(torch.float32)).squeeze(1)
    return total / weights.sum(1, keepdim=True)


def pool_first(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - a Pool's signature
    """The first token, which is the class token where there is one."""
    return hidden[:, 0]


def pool_last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The last token under the mask, which in a decoder has seen all others."""
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]


POOLING_FUNCTIONS: dict[str, PoolingFunction] = {"mean": pool_mean, "cls": pool_first, "last": pool_last}


#: What a block widens a batch to should stay in a core's caches: four times as many tokens take twice as long for each.
TOKENS_PER_THREAD = 512
#: A card is slower with less.
TOKENS_GPU = 65_536
BATCH_ITEMS_MAX = 1024
#: What the hidden states of a batch may take.
STATES_BYTES = 256 * 2**20
#: Rows of a batch for each layer that was asked for, from its tokens and its mask, both (b, longest).
EncodeBatch = Callable[[torch.Tensor, torch.Tensor], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class TextEncoder:
    """How a model reads texts.

    Attributes
    ----------
    tokenizer : the model's own
    max_length : tokens of a text, at most
    batch_tokens : tokens of a batch with its padding, at most
    device : where the model is
    known : tokens that the model has a vector for; None: it does not say
    """

    tokenizer: "PreTrainedTokenizerBase"
    max_length: int
    batch_tokens: int
    device: torch.device
    known: int | None = None

    def encode(self, items: Sequence[Item], dims: Sequence[int], step: EncodeBatch) -> Encoded:
        """The rows of the texts for layers of these dims, batch by batch."""
        tokens = tokenise(self.tokenizer, items, self.max_length)
        self._check_known(tokens.ids)
        rows = tuple(np.empty((len(items), dim), np.float32) for dim in dims)
        pad_id = self.tokenizer.pad_token_id or 0
        with torch.inference_mode():
            for batch in plan_batches([len(ids) for ids in tokens.ids], self.batch_tokens, BATCH_ITEMS_MAX):
                ids, mask = pad([tokens.ids[at] for at in batch], pad_id)
                found = step(ids.to(self.device), mask.to(self.device))
                for matrix, part in zip(rows, found, strict=True):
                    matrix[batch] = part.float().cpu().numpy()
        return Encoded(rows, tokens.truncated)

    def _check_known(self, ids: Sequence[Sequence[int]]) -> None:
        """A token beyond the model's table ends a processor's job in an unforeseen error, and a card's whole process."""
        largest = max(map(max, ids), default=0)
        if self.known is not None and largest >= self.known:
            raise UnreadableFile(
                f"The tokenizer makes token {largest}, and the model knows {self.known} tokens.",
                value=largest,
                limit=self.known - 1,
                hint="The tokenizer's files are another model's.",
            )


def count_batch_tokens(device: torch.device, bytes_per_token: int) -> int:
    """Tokens of a batch, so that the hidden states of all of them fit into memory."""
    most = TOKENS_PER_THREAD * torch.get_num_threads() if device.type == "cpu" else TOKENS_GPU
    return min(most, max(1, STATES_BYTES // bytes_per_token))


@dataclass(frozen=True)
class Tokens:
    """The tokens of some texts.

    Attributes
    ----------
    ids : the tokens of each text
    truncated : how many texts were longer
    """

    ids: list[list[int]]
    truncated: int


def check_tokenizer(tokenizer: "PreTrainedTokenizerBase", identifier: str) -> None:
    """Refuse a tokenizer that does not say what it cut off, and one that was made up: its files are not there."""
    if not tokenizer.is_fast:
        raise UnsupportedFormat(
            f"{identifier} has no tokenizer.json.",
            value=type(tokenizer).__name__,
            hint="Save its tokenizer with use_fast=True beside the weights.",
        )
    names = ("tokenizer.json", *tokenizer.vocab_files_names.values())
    if not any((Path(tokenizer.name_or_path) / name).exists() for name in names):
        raise UnreadableFile(
            f"{identifier} has no tokenizer: without one, all words are the same to it.",
            value=names[0],
            hint=f"Put the files of its tokenizer beside the weights: {' or '.join(dict.fromkeys(names))}.",
        )


def tokenise(tokenizer: "PreTrainedTokenizerBase", items: Sequence[Item], max_length: int) -> Tokens:
    """The texts' tokens, at most `max_length` of each with the special ones.

    Raises
    ------
    UnusableItem
        A text of no tokens, or no text.
    """
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise UnusableItem("The model reads texts, not images.", index=index)
    encoded = tokenizer(
        list(items), truncation=True, max_length=max_length, return_attention_mask=False, return_token_type_ids=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    for index, row in enumerate(ids):
        if not row:
            raise UnusableItem("The text has no tokens.", index=index, value=items[index], hint="Leave it out.")
    truncated = sum(bool(encoding.overflowing) for encoding in encoded.encodings or ())
    return Tokens(ids, truncated)


def pad(rows: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask (b, longest): padding stands at the end, where it changes no position."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return ids, mask


#: What transformers says of weights that do not fit, and of a report that nobody sees.
MISMATCHED_SHAPES = "ignore_mismatched_sizes"
CUSTOM_CODE_HINT = "It comes with code of its own, which is never run: take a model that its library knows."
#: Of a text whose model names no limit.
LENGTH_DEFAULT = 2048


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

    def __init__(self, source: ModelSource, pooling: Pooling, max_length: int | None, device: str) -> None:
        place = torch.device(device)
        with report_loading_errors(source):
            self._model, tokenizer = load_transformer(source, place)
            dims = self._measure(place)
        check_tokenizer(tokenizer, source.name)
        length = _find_length(source, tokenizer, self._model, max_length)
        self._reader = TextEncoder(
            tokenizer,
            length,
            count_batch_tokens(place, sum(dims) * self._model.dtype.itemsize),
            place,
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
            device=str(place),
        )

    def encode(self, items: Sequence[Item], layers: Sequence[str]) -> Encoded:
        """See `Model.encode`."""
        places = find_layer_indices(self.layers, layers)
        pool = POOLING_FUNCTIONS[self._pooling]

        def step(ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
            states = self._run(ids, mask)
            return [pool(states[place], mask) for place in places]

        return self._reader.encode(items, [self.layers[place][1] for place in places], step)

    def _run(self, ids: torch.Tensor, mask: torch.Tensor) -> Sequence[torch.Tensor]:
        extra = {"use_cache": False} if getattr(self._model.config, "use_cache", False) else {}
        answer = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True, **extra)
        states: Sequence[torch.Tensor] = answer.hidden_states
        return states

    def _measure(self, place: torch.device) -> list[int]:
        """The layers' dims, asked of the model itself: they are not always those of its configuration."""
        with torch.inference_mode():
            one = torch.ones((1, 1), dtype=torch.long, device=place)
            return [int(state.shape[-1]) for state in self._run(one, one)]


@contextmanager
def report_loading_errors(source: ModelSource) -> Iterator[None]:
    """What a library says of damaged files, in our words and without the server's paths."""
    try:
        yield
    except (ConsilienceError, ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # what libraries raise of damaged files is of no common class
        said = str(error).strip().partition("\n")[0].replace(str(source.folder), source.name)
        if MISMATCHED_SHAPES in said:
            said = "its weights are of other shapes than its config.json says"
        elif isinstance(error, KeyError):
            said = f"its config.json lacks {said}"
        raise UnreadableFile(
            f"{source.name} cannot be loaded: {said.rstrip('.') or type(error).__name__}.",
            value=source.name,
            hint=CUSTOM_CODE_HINT
            if _brings_code(source)
            else "Its files are damaged, or their kind is not known to the library.",
        ) from error


def _brings_code(source: ModelSource) -> bool:
    config = source.folder / "config.json"
    content = read_json(config, source.name) if config.is_file() else None
    return isinstance(content, dict) and "auto_map" in content


def check_missing_weights(source: ModelSource, missing: Sequence[str]) -> None:
    """Weights that are not in the files would be random ones."""
    needed = sorted(name for name in missing if "pooler." not in name)  # the pooler follows the hidden states
    if needed:
        raise UnreadableFile(
            f"The files of {source.name} lack {len(needed)} weights, {needed[0]} among them.",
            value=needed[0],
            hint="The files are damaged, or their configuration is another model's.",
        )


def load_transformer(source: ModelSource, device: torch.device) -> tuple[Any, Any]:
    """The model, without what comes after its last block, and its tokenizer."""
    patch_torchvision()
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
    check_missing_weights(source, loading["missing_keys"])
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    tokenizer = AutoTokenizer.from_pretrained(source.folder, **safely)
    return model.eval().to(device), tokenizer


def count_vocabulary(model: Any) -> int | None:
    """Tokens that the model has a vector for; None where it does not say."""
    try:
        return getattr(model.get_input_embeddings(), "num_embeddings", None)
    except NotImplementedError:
        return None


def check_length(source: ModelSource, asked: int, tokenizer: Any, longest: int | None) -> int:
    """What the request says, where the model can read so much, and where any of a text would be left."""
    own = tokenizer.num_special_tokens_to_add()
    if asked <= own:
        raise InvalidRequest(
            f"Of {asked} tokens {source.name} would read nothing of a text: {own} are its own.",
            value=asked,
            limit=own + 1,
            hint=f"Set max_length to {own + 1} at least, or leave it out.",
            pointer="/max_length",
        )
    if longest is not None and asked > longest:
        raise InvalidRequest(
            f"{source.name} reads at most {longest} tokens.",
            value=asked,
            limit=longest,
            hint=f"Set max_length to {longest} at most, or leave it out.",
            pointer="/max_length",
        )
    return asked


def _count_positions(model: Any) -> int | None:
    """Tokens that the model has positions for; where padding has one (RoBERTa), those up to it are not used."""
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    unused = getattr(table, "padding_idx", None)
    return positions if positions is None or unused is None else positions - unused - 1


def _find_length(source: ModelSource, tokenizer: Any, model: Any, asked: int | None) -> int:
    """Tokens that are read of a text: the model's own limit, or less where its makers or the request say so."""
    limits = [limit for limit in (tokenizer.model_max_length, _count_positions(model)) if limit and limit < 10**6]
    longest = min(limits, default=None)
    if asked is not None:
        return check_length(source, asked, tokenizer, longest)
    file = source.folder / "sentence_bert_config.json"
    meant = read_json(file, source.name) if file.exists() else {}
    own = meant.get("max_seq_length") if isinstance(meant, dict) else None
    return min([*limits, *([own] if isinstance(own, int) and own > 0 else [])], default=LENGTH_DEFAULT)
