"""Write docs/metrics.md from the contract's classes: `python docs/generate.py`. A test compares the page with them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from consilience.contract.metrics import MetricDescription, catalogue

PAGE = Path(__file__).parent / "metrics.md"
TOP = """# Metrics

Written by `make docs` from the classes that `GET /v1/metrics` and `consilience metrics` read; how far the p-values and
intervals can be trusted is measured in [evidence.md](evidence.md).

A and B are the two sides' prepared rows (by default scaled to length 1), n of them with p and q columns; Xc, Yc are the same
with their column means subtracted; N_A(i) are the k rows most similar to row i in A, i left out; |.| of a matrix is the
Frobenius norm and |.|_* the sum of its singular values. *At chance* is the value expected when the pairing is random. The first
of the *nulls* is the default. A *distance* is smaller the more the sides agree; all others are larger. All facts are those of
the default options.
"""


def render() -> str:
    """Write the page, Markdown."""
    cards = catalogue().data
    overview = _table(
        ["metric", "what", "range", "at chance"],
        [[f"[{card.name}](#{card.name})", card.title, _range(card), card.chance] for card in cards],
    )
    return "\n".join([TOP, overview, *(_section(card) for card in cards)]) + "\n"


def _section(card: MetricDescription) -> str:
    facts = [
        ["range", f"{_range(card)}; {card.direction}"],
        ["at chance", card.chance],
        ["nulls", ", ".join(card.nulls)],
        ["symmetric", _yes(holds=card.symmetric)],
        ["unchanged by rotating one side", _yes(holds=card.rotation_invariant)],
        ["unchanged by scaling one side", _yes(holds=card.scale_invariant)],
        *([["triangle inequality", "yes"]] if card.triangle else []),
        ["cost", card.cost],
        ["reference", card.reference],
    ]
    parts = [f"\n## {card.name}", card.summary, f"```text\n{card.formula}\n```", _table(["", ""], facts)]
    if card.options:
        parts.append(_table(["option", "default", "values", ""], [*_options(card)]))
    return "\n\n".join(parts)


def _options(card: MetricDescription) -> Iterator[list[str]]:
    for name, schema in card.options.items():
        default = schema["default"]
        shown = json.dumps(default[0] if isinstance(default, list) and len(default) == 1 else default)
        yield [f"`{name}`", f"`{shown.strip(chr(34))}`", _values(schema), schema.get("description", "")]


def _values(schema: dict[str, Any]) -> str:
    """Describe the values that a JSON schema allows."""
    if "anyOf" in schema:
        return ", or ".join(_values(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema["type"] == "array":
        return "a list of them"
    if schema["type"] in ("integer", "number"):
        return {"integer": "whole number", "number": "number"}[schema["type"]] + _limits(schema)
    return str(schema["type"])


def _limits(schema: dict[str, Any]) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
    return "".join(f" {word} {schema[limit]}" for limit, word in words.items() if limit in schema)


def _range(card: MetricDescription) -> str:
    low, high = ("" if bound is None else f"{bound:.4g}" for bound in (card.low, card.high))
    return f"{low} to {high}" if low and high else f"from {low}" if low else f"up to {high}" if high else "not bounded"


def _yes(*, holds: bool) -> str:
    return "yes" if holds else "no"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = (" | ".join(row) for row in (head, ["---"] * len(head), *escaped))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(render())
