import threading

import pytest

from consilience.numerics.rows.parallel import prefetch_blocks


def test_blocks_come_in_order_and_cover_the_span() -> None:
    found = list(prefetch_blocks(lambda start, stop: list(range(start, stop)), slice(3, 20), 5))
    assert [block for block, _ in found] == [slice(3, 8), slice(8, 13), slice(13, 18), slice(18, 20)]
    assert [row for _, rows in found for row in rows] == list(range(3, 20))


def test_at_most_one_block_is_read_in_advance() -> None:
    started: list[int] = []

    def read(start: int, _stop: int) -> int:
        started.append(start)
        return start

    blocks = prefetch_blocks(read, slice(0, 100), 10)
    for _, found in blocks:
        assert max(started) <= found + 10
        if found == 50:
            break
    blocks.close()  # type: ignore[attr-defined]  # a generator
    assert len(started) <= 7


def test_the_thread_ends_with_the_last_block() -> None:
    list(prefetch_blocks(lambda start, _: start, slice(0, 30), 10))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_an_error_in_the_thread_is_raised_to_the_reader() -> None:
    def read(start: int, _stop: int) -> int:
        if start == 20:
            raise OSError("gone")
        return start

    with pytest.raises(OSError, match="gone"):
        list(prefetch_blocks(read, slice(0, 50), 10))
