from itertools import permutations

import numpy as np
import pytest

from consilience.numerics.stats.layers import AGGREGATES, aggregate

GRID = np.random.default_rng(0).normal(size=(4, 6))


def test_each_aggregate_matches_its_definition() -> None:
    assert aggregate(GRID, "max", 5) == GRID.max()
    assert aggregate(GRID, "row_max_mean", 5) == pytest.approx(GRID.max(axis=1).mean())
    assert aggregate(GRID, "column_max_mean", 5) == pytest.approx(GRID.max(axis=0).mean())
    assert aggregate(GRID, "top_k_mean", 3) == pytest.approx(np.sort(GRID.ravel())[-3:].mean())
    matchings = [GRID[np.arange(4), list(columns)].mean() for columns in permutations(range(6), 4)]
    assert aggregate(GRID, "hungarian_mean", 5) == pytest.approx(max(matchings))


@pytest.mark.parametrize("how", AGGREGATES)
def test_no_aggregate_is_above_the_maximum(how: str) -> None:
    assert aggregate(GRID, how, 5) <= GRID.max()  # type: ignore[arg-type]  # parametrised


@pytest.mark.parametrize("how", AGGREGATES)
def test_undefined_pairs_are_left_out(how: str) -> None:
    holed = np.full((5, 7), np.nan)
    holed[1:, :6] = GRID
    assert aggregate(holed, how, 5) == pytest.approx(aggregate(GRID, how, 5))  # type: ignore[arg-type]  # parametrised


@pytest.mark.parametrize("how", AGGREGATES)
def test_one_pair_is_its_own_aggregate_and_no_pair_gives_nan(how: str) -> None:
    assert aggregate(np.array([[0.25]]), how, 5) == 0.25  # type: ignore[arg-type]  # parametrised
    assert np.isnan(aggregate(np.array([[np.nan]]), how, 5))  # type: ignore[arg-type]  # parametrised


def test_the_matching_is_correct_with_negative_or_undefined_values() -> None:
    grid = np.array([[-0.2, np.nan], [-0.5, -0.9]])
    assert aggregate(grid, "hungarian_mean", 5) == pytest.approx((-0.2 - 0.9) / 2)
