import numpy as np
import pytest

from consilience.errors import InvalidShape, NonFiniteValues
from consilience.maps.api import fit_map
from consilience.maps.apply import translate_vectors

ROWS = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
TARGETS = np.tanh(ROWS @ np.random.default_rng(1).normal(size=(6, 5))).astype(np.float32)


@pytest.mark.parametrize("preparation", ["l2", "none"])
@pytest.mark.parametrize("kind", ["procrustes", "ridge", "low_rank", "relative", "mlp"])
def test_a_few_vectors_are_translated_as_by_map_apply(kind: str, preparation: str) -> None:
    options = {"low_rank": {"rank": 2}, "relative": {"anchors": 20}, "mlp": {"epochs": 3, "hidden": 9}}.get(kind, {})
    found = fit_map(ROWS, TARGETS, map={"kind": kind, **options}, preparation=preparation)
    vectors = np.vstack([ROWS[:3].astype(np.float64), np.zeros((1, 6))])
    assert translate_vectors(found.file(), vectors) == pytest.approx(found.apply(vectors), abs=1e-5)


def test_vectors_of_another_dimension_or_too_large_are_refused() -> None:
    file = fit_map(ROWS, TARGETS).file()
    with pytest.raises(InvalidShape, match="have 5 dimensions; the map takes vectors of 6 dimensions"):
        translate_vectors(file, np.ones((2, 5)))
    with pytest.raises(NonFiniteValues, match="in row 1, column 2"):
        translate_vectors(file, np.array([[1.0] * 6, [1, 1, 1e300, 1, 1, 1]]))


def test_translations_too_large_for_float32_are_refused() -> None:
    file = fit_map(ROWS, 1e6 * TARGETS, preparation="none").file()
    with pytest.raises(NonFiniteValues, match="too large"):
        translate_vectors(file, np.full((1, 6), 3e38))
