"""Texts as numbers: tokenised once, cut where the model ends, padded a batch at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from consilience.errors import UnsupportedFormat
from consilience.models.model import Item, UnusableItem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(row) for row in self.ids]


def check_tokenizer(tokenizer: "PreTrainedTokenizerBase", identifier: str) -> None:
    """Refuse a tokenizer that does not say what it cut off."""
    if not tokenizer.is_fast:
        raise UnsupportedFormat(f"{identifier} has no tokenizer.json.", value=type(tokenizer).__name__)


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
