"""Malicious map files: the safetensors of the embeddings, which another parser reads here, and bad cards."""

import json

from consilience.formats.map_files import CARD_KEY
from tests.hostile.corpus.arrays import ARRAYS, SAFETENSORS, entry, tensors
from tests.hostile.corpus.attack import Attack, post


def card(text: object) -> bytes:
    """A file with one tensor and any value as its card."""
    return tensors({"__metadata__": {CARD_KEY: text}, "a": entry(0, 48)}, bytes(48))


CARDS = {
    "no card": tensors({"a": entry(0, 48)}, bytes(48)),
    "a card that is no text": card(7),
    "a card that is no JSON": card("{"),
    "a card without bottom": card('{"a":' * 100_000),
    "a card of NaN": card(json.dumps({"quality": float("nan")})),
    "a card of half a character": card('{"name": "\\ud800"}'),
    "a card of a million digits": card('{"n": ' + "9" * 900_000 + "}"),
    "metadata that is a list": tensors({"__metadata__": [CARD_KEY], "a": entry(0, 48)}, bytes(48)),
}

ATTACKS: dict[str, Attack] = {
    **{f"map, {name}": post("/v1/maps", data, SAFETENSORS)
       for name, (data, media_type) in ARRAYS.items() if media_type == SAFETENSORS},
    **{f"map, {name}": post("/v1/maps", data, SAFETENSORS) for name, data in CARDS.items()},
}  # fmt: skip
