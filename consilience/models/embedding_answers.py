"""What an OpenAI-compatible server answers, made sure of: as many rows as texts, in their order, all of one dim."""

import json

import numpy as np

from consilience.models.model import Rows

DIM_MAX = 65_536


def parse_answer(answer: bytes, n: int, dim: int | None) -> Rows:
    """The rows (n, dim) of an answer; ValueError says what is wrong with it.

    Parameters
    ----------
    answer : bytes
        JSON: ``{"data": [{"index": 0, "embedding": [...]}, ...]}``; entries may come in any order.
    n : int
        Texts that were sent.
    dim : int or None
        Of the answers before this one.
    """
    try:
        document = json.loads(answer)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise ValueError("there is no list `data` of objects")
    places = [entry.get("index", place) for place, entry in enumerate(data)]
    if any(type(place) is not int for place in places) or sorted(places) != list(range(n)):
        raise ValueError(f"{n} texts were sent, and the indexes are not 0 to {n - 1}: {len(places)} came back")
    rows = [_parse_row(entry.get("embedding")) for entry in data]
    dims = {len(row) for row in rows}
    if len(dims) != 1 or dims == {0} or (dim is not None and dims != {dim}):
        raise ValueError(f"embeddings of dim {', '.join(map(str, sorted(dims)))} where {dim or 'one dim'} was expected")
    try:
        wide = np.array(rows, np.float64)
    except OverflowError as error:
        raise ValueError("a value is larger than a float can hold") from error
    if not (np.abs(wide) <= np.finfo(np.float32).max).all():  # nor is NaN
        raise ValueError("a value is not finite")
    return wide[np.argsort(places)].astype(np.float32)


def _parse_row(values: object) -> list[float]:
    if not isinstance(values, list) or len(values) > DIM_MAX:
        raise ValueError(f"an embedding is no list of at most {DIM_MAX} numbers")
    if not all(type(value) in {float, int} for value in values):
        raise ValueError("a value of an embedding is no number")
    return values
