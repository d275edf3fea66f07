import pytest

from consilience.limits import BLOCK_ROWS
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, PART_VALUES, block_rows, split_rows


@pytest.mark.parametrize(("n", "dim"), [(4, 3), (BLOCK_ROWS, 768), (1_000_000, 768), (300_000, 100_000)])
def test_rows_are_split_into_whole_blocks_that_cover_them(n: int, dim: int) -> None:
    spans = split_rows(n, dim)
    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
    assert spans[-1].stop == n
    assert all(span.start % block_rows(dim) == 0 for span in spans)
    assert all((span.stop - span.start) * dim <= PART_VALUES for span in spans)


def test_local_tasks_run_in_order_when_their_results_are_requested() -> None:
    done: list[int] = []
    results = LOCAL_EXECUTOR.map(lambda part: done.append(part) or part, [3, 1, 2])
    assert done == []
    assert list(results) == done == [3, 1, 2]
