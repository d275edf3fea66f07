"""Texts as numbers: tokenised once, cut where the model ends, padded a batch at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from consilience.errors import UnreadableFile, UnsupportedFormat
from consilience.models.batches import plan_batches
from consilience.models.model import Encoded, Item, UnusableItem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What a block widens a batch to should stay in a core's caches: four times as many tokens take twice as long for each.
TOKENS_PER_THREAD = 512
#: A card is slower with less.
TOKENS_CARD = 65_536
ITEMS = 1024
#: What the hidden states of a batch may take.
STATES_BYTES = 256 * 2**20
#: Rows of a batch for each layer that was asked for, from its tokens and its mask, both (b, longest).
Step = Callable[[torch.Tensor, torch.Tensor], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class Reader:
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

    def encode(self, items: Sequence[Item], dims: Sequence[int], step: Step) -> Encoded:
        """The rows of the texts for layers of these dims, batch by batch."""
        tokens = tokenise(self.tokenizer, items, self.max_length)
        self._check_known(tokens.ids)
        rows = tuple(np.empty((len(items), dim), np.float32) for dim in dims)
        pad_id = self.tokenizer.pad_token_id or 0
        with torch.inference_mode():
            for batch in plan_batches([len(ids) for ids in tokens.ids], self.batch_tokens, ITEMS):
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
    most = TOKENS_PER_THREAD * torch.get_num_threads() if device.type == "cpu" else TOKENS_CARD
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
