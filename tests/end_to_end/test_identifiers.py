"""A score by identifiers alone: from the names of a model and a dataset to the values of the reference's own rows."""

import json
import platform
from pathlib import Path

import numpy as np
import pytest

from consilience.client.sync import Client
from consilience.contract.extraction import Extraction
from consilience.scoring import score

#: Every sixteenth of the 512 functions; `python -m benchmarks extraction` takes all of them.
PLACES = range(0, 512, 16)
ITEMS = Path(__file__).parents[1] / "datasets" / "stdlib_dev_items.json"
IDS = [json.loads(ITEMS.read_text())[place][0] for place in PLACES]
MODEL = "hf:all-MiniLM-L6-v2"


@pytest.mark.skipif(platform.python_version() != "3.11.7", reason="another Python has another library")
def test_docstrings_and_bodies_score_as_the_rows_of_the_reference_do(client: Client, docs: Path, code: Path) -> None:
    dataset = client.make_dataset("stdlib-docs", ids=IDS)
    wishes = [Extraction(model=MODEL, dataset=dataset.id, view=view, pooling="mean") for view in ("text", "code")]
    options = {"metrics": [{"metric": "mutual_knn", "k": 5}, "cka"], "layers": "all"}
    made = client.align(*wishes, **options, pairing="id").wait(timeout_s=120)

    rows = [np.load(file)[list(PLACES)] for file in (docs, code)]
    expected = score(*rows, **options)
    for ours, theirs in zip(made.scores, expected.scores, strict=True):
        np.testing.assert_allclose(ours.grid, theirs.grid, atol=0.02 if ours.metric == "mutual_knn" else 1e-3)
    stored = client.embedding(made.a.id or "")
    assert stored.record is not None
    assert (stored.record.max_length, stored.record.view, stored.record.dataset_digest) == (256, "text", dataset.digest)

    again = client.extract(MODEL, dataset.id, view="code", pooling="mean").wait(timeout_s=60)
    assert (again.cache, again.embedding) == ("hit", made.b.id)
