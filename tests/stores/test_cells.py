from datetime import timedelta

import pytest

from consilience.contract.scores import NullDistribution
from consilience.contract.study_results import CellScore
from consilience.stores.cells import CellRecords
from consilience.stores.database import Database


@pytest.fixture
def cells(database: Database) -> CellRecords:
    return CellRecords(database)


def cell(value: float) -> CellScore:
    return CellScore(
        status="defined",
        value=value,
        layer_a="0",
        layer_b="1",
        null=NullDistribution(method="analytic", layer_pairs=1),
        warnings=("so so",),
    )


def test_cells_come_back_as_they_were_kept(cells: CellRecords) -> None:
    cells.add({"a" * 64: (cell(0.1), cell(0.2)), "b" * 64: (cell(0.3),)})
    assert cells.read(["b" * 64, "a" * 64, "c" * 64]) == {"a" * 64: (cell(0.1), cell(0.2)), "b" * 64: (cell(0.3),)}
    assert cells.count(["a" * 64, "c" * 64]) == 1


def test_a_cell_that_is_there_stays_as_it_is(cells: CellRecords) -> None:
    cells.add({"a" * 64: (cell(0.1),)})
    cells.add({"a" * 64: (cell(0.9),), "b" * 64: (cell(0.2),)})
    assert cells.read(["a" * 64]) == {"a" * 64: (cell(0.1),)}
    assert cells.count(["a" * 64, "b" * 64]) == 2


def test_more_cells_than_one_query_asks_for(cells: CellRecords) -> None:
    keys = [f"{number:064x}" for number in range(1201)]
    cells.add({key: (cell(0.5),) for key in keys})
    assert len(cells.read(keys)) == cells.count(keys) == 1201


def test_nothing_is_kept_and_nothing_is_read_without_a_word(cells: CellRecords) -> None:
    cells.add({})
    assert (cells.read([]), cells.count([])) == ({}, 0)


def test_cells_are_forgotten_after_their_time(cells: CellRecords) -> None:
    cells.add({"a" * 64: (cell(0.1),)})
    assert cells.expire(timedelta(days=1)) == 0
    assert cells.expire(timedelta(seconds=-1)) == 1
    assert cells.read(["a" * 64]) == {}
