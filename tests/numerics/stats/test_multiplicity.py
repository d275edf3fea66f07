import numpy as np
import pytest
from scipy.stats import false_discovery_control

from consilience.numerics.stats.nulls import adjust

P = np.random.default_rng(0).beta(0.3, 2, size=40)


def test_benjamini_hochberg_agrees_with_scipy() -> None:
    np.testing.assert_allclose(adjust(P, "benjamini_hochberg"), false_discovery_control(P), rtol=1e-12)


def test_holm_is_the_step_down_procedure() -> None:
    adjusted = adjust(P, "holm")
    for alpha in (0.01, 0.05, 0.2):
        rejected = set()
        for step, index in enumerate(np.argsort(P)):
            if P[index] > alpha / (len(P) - step):
                break
            rejected.add(int(index))
        assert rejected == set(np.flatnonzero(adjusted <= alpha))


@pytest.mark.parametrize("method", ["holm", "benjamini_hochberg"])
def test_one_p_value_stays_and_none_is_none(method: str) -> None:
    assert adjust(np.array([0.03]), method).tolist() == [0.03]  # type: ignore[arg-type]  # parametrised
    assert adjust(np.array([]), method).tolist() == []  # type: ignore[arg-type]  # parametrised


@pytest.mark.parametrize("method", ["holm", "benjamini_hochberg"])
def test_adjusted_values_are_never_smaller_nor_above_1(method: str) -> None:
    adjusted = adjust(P, method)  # type: ignore[arg-type]  # parametrised
    assert (adjusted >= P).all()
    assert (adjusted <= 1).all()
