"""The whole way, from two real files over HTTP to the values of the unmodified reference implementation."""

from pathlib import Path

import pytest

from consilience.client.sync import Client
from consilience.contract.metrics import Cka, MutualKnn
from consilience.contract.scores import ScoreDocument
from consilience.scoring import score

TOLERANCE = 5e-4


@pytest.fixture(scope="module")
def last_layers(client: Client, docs: Path, code: Path) -> ScoreDocument:
    metrics = (MutualKnn(), Cka(), Cka(debiased=False), Cka(definition="prh"))
    return client.align(docs, code, metrics=metrics).wait(timeout_s=30)


@pytest.mark.parametrize(("index", "value"), [(0, 0.20918), (1, 0.38360), (2, 0.46375), (3, 0.38356)])
def test_the_last_layers_score_as_the_reference_does(last_layers: ScoreDocument, index: int, value: float) -> None:
    assert last_layers.scores[index].value == pytest.approx(value, abs=TOLERANCE)


def test_the_best_pair_of_the_grid_is_that_of_the_reference(client: Client, docs: Path, code: Path) -> None:
    document = client.align(docs, code, metrics=["mutual_knn"], layers="all", preparation="prh").wait(timeout_s=30)
    (best,) = document.scores
    assert best.value == pytest.approx(0.21074, abs=TOLERANCE)
    assert (best.layer_a, best.layer_b) == ("6", "6")
    assert len(best.grid) == len(best.grid[0]) == 7
    assert (best.null.method, best.null.layer_pairs) == ("bonferroni", 49)


def test_the_service_and_the_library_say_the_same(client: Client, docs: Path, code: Path) -> None:
    options = {"metrics": ["mutual_knn", "cka"], "layers": "all"}
    there, here = client.align(docs, code, **options).wait(timeout_s=30), score(docs, code, **options)
    for ours, theirs in zip(here.scores, there.scores, strict=True):
        assert ours.value == pytest.approx(theirs.value, abs=1e-9)
        assert ours.null == theirs.null
        assert (ours.layer_a, ours.layer_b) == (theirs.layer_a, theirs.layer_b)
