"""Values of metrics for every shape, number type and memory layout of the rows: those of the same numbers in float64."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilience.contract.metric import NeighbourMetric
from consilience.contract.metrics import METRICS
from consilience.contract.scores import ScoreDocument
from consilience.scoring import score

#: Few neighbours, so that small shapes have enough rows.
REQUESTED: list[dict[str, object]] = [
    {"metric": name, **({"k": 2} if issubclass(kind, NeighbourMetric) else {})} for name, kind in METRICS.items()
]
DTYPES = {"f2": np.float16, "bf16": ml_dtypes.bfloat16, "f4": np.float32, "f8": np.float64}
LAYOUTS = {
    "as it is": lambda x: x,
    "read-only": lambda x: _locked(x.copy()),
    "by columns": np.asfortranarray,
    "every second row and column": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2],
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "a layer of several": lambda x: np.stack([x, x], axis=1)[:, 1],
}
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _locked(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


def views(n: int, p: int, q: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 3))
    return tuple(latent @ rng.normal(size=(3, d)) + 0.5 * rng.normal(size=(n, d)) for d in (p, q))  # type: ignore[return-value]  # two


def measure(a: object, b: object) -> ScoreDocument:
    return score(a, b, metrics=REQUESTED, null={"method": "none"}, interval=None)


def values(document: ScoreDocument) -> list[float]:
    return [np.nan if entry.value is None else entry.value for entry in document.scores]


@pytest.fixture(scope="module")
def plain() -> tuple[np.ndarray, np.ndarray]:
    """Rows whose numbers every type holds exactly: multiples of 1/64 below 4."""
    a, b = (np.clip(np.round(side * 64) / 64, -3, 3) for side in views(32, 5, 7, seed=1))
    return tuple(side.astype(ml_dtypes.bfloat16).astype(np.float64) for side in (a, b))  # type: ignore[return-value]  # two


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_types_and_layouts_change_no_value(plain: tuple[np.ndarray, np.ndarray], dtype: str, layout: str) -> None:
    a, b = (LAYOUTS[layout](side.astype(DTYPES[dtype])) for side in plain)
    assert values(measure(a, b)) == values(measure(*plain))


@quick
@given(n=st.integers(4, 24), p=st.integers(1, 30), q=st.integers(1, 30), seed=st.integers(0, 2**16))
def test_every_shape_has_values_in_their_range_or_reasons(n: int, p: int, q: int, seed: int) -> None:
    for entry in measure(*views(n, p, q, seed)).scores:
        kind = METRICS[entry.metric]
        assert (entry.value is None) == (entry.status == "undefined") == (entry.reason is not None)
        if entry.value is not None:
            assert kind.low is None or entry.value >= kind.low - 1e-9
            assert kind.high is None or entry.value <= kind.high + 1e-9


@quick
@given(
    dtype=st.sampled_from(sorted(DTYPES)),
    layouts=st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 2),
    n=st.integers(8, 32),
    seed=st.integers(0, 2**16),
)
def test_scoring_does_not_change_the_rows(dtype: str, layouts: tuple[str, str], n: int, seed: int) -> None:
    sides = [
        LAYOUTS[layout](side.astype(DTYPES[dtype])) for layout, side in zip(layouts, views(n, 4, 3, seed), strict=True)
    ]
    before = [side.copy() for side in sides]
    measure(*sides)
    for side, kept in zip(sides, before, strict=True):
        np.testing.assert_array_equal(side, kept)


@quick
@given(dtype=st.sampled_from(["f2", "bf16"]), n=st.integers(16, 40), d=st.integers(2, 12), seed=st.integers(0, 2**16))
def test_narrow_types_are_converted_exactly_to_wider_ones(dtype: str, n: int, d: int, seed: int) -> None:
    narrow = [side.astype(DTYPES[dtype]) for side in views(n, d, d, seed)]
    assert values(measure(*narrow)) == pytest.approx(
        values(measure(*(side.astype(np.float32) for side in narrow))), abs=0, nan_ok=True
    )


@quick
@given(scale=st.integers(-60, 60), n=st.integers(16, 32), seed=st.integers(0, 2**16))
def test_scaling_rows_by_powers_of_two_changes_no_value(scale: int, n: int, seed: int) -> None:
    a, b = (side.astype(np.float32) for side in views(n, 5, 4, seed))
    found, expected = values(measure(np.ldexp(a, scale), np.ldexp(b, -scale))), values(measure(a, b))
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)
