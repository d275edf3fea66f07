"""Neighbour graphs that are kept: built once for all processes, within a bound, the least recently used leave first."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from consilience.stores.graph_cache import DiskCache

CHECKSUM = 32
ROOT = Path(__file__).parents[2]


def never() -> None:
    raise AssertionError("nobody else should be at it")


def load(file: BinaryIO) -> bytes:
    return file.read()


def keep(graphs: DiskCache, key: str, data: bytes) -> None:
    with graphs.claim(key, never) as keep:
        keep(lambda file: file.write(data))


def kept(graphs: DiskCache, keys: str) -> str:
    """Those of the keys that are kept; a look that is no use of theirs."""
    return "".join(key for key in keys if graphs._path(key).exists())


def use(graphs: DiskCache, key: str, at: float) -> None:
    """As if it had been used at this time: files that are written in a hurry may have the same."""
    os.utime(graphs._path(key), (at, at))


def left_over(tmp_path: Path) -> list[Path]:
    return sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name != "counters")


def test_a_graph_comes_back_under_its_key_and_a_newer_one_replaces_it(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 1000)
    assert graphs.read("../a key of any kind", load) is None
    for data in (b"", b"longer", b"new"):
        keep(graphs, "../a key of any kind", data)
        assert graphs.read("../a key of any kind", load) == data
    assert graphs.read("another", load) is None
    assert len(left_over(tmp_path)) == 1
    assert graphs.describe().evictions == 0


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:0], lambda raw: raw[:-1] + b"?"])
def test_a_damaged_graph_counts_as_absent_and_can_be_kept_again(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    graphs = DiskCache(tmp_path, 1000)
    keep(graphs, "key", b"a graph")
    (path,) = left_over(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert graphs.read("key", load) is None
    keep(graphs, "key", b"a graph")
    assert graphs.read("key", load) == b"a graph"


def test_a_graph_at_anothers_address_counts_as_absent(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 1000)
    keep(graphs, "a", b"a graph")
    (path,) = left_over(tmp_path)
    other = graphs._path("b")
    other.parent.mkdir()
    path.replace(other)
    assert graphs.read("b", load) is None


def test_files_are_for_this_user_alone(tmp_path: Path) -> None:
    keep(DiskCache(tmp_path / "data", 1000), "key", b"graph")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "data").rglob("*")} == {0}


def test_the_least_recently_used_graphs_are_evicted_first(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 4 * (CHECKSUM + 10))
    for age, key in enumerate("dcba"):
        keep(graphs, key, bytes(10))
        use(graphs, key, at=1000 - age)
    assert graphs.read("a", load)
    keep(graphs, "e", bytes(10))
    assert kept(graphs, "abcde") == "acde"
    keep(graphs, "f", bytes(CHECKSUM + 20))
    assert kept(graphs, "abcdef") == "aef"
    assert graphs.describe().evictions == 3


def test_a_graph_larger_than_the_bound_is_not_kept_and_drives_no_other_out(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 100)
    keep(graphs, "small", bytes(50))
    keep(graphs, "large", bytes(100))
    assert graphs.read("large", load) is None
    assert graphs.read("small", load) == bytes(50)
    assert len(left_over(tmp_path)) == 1


def test_a_graph_that_is_replaced_need_not_fit_twice(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 200)
    keep(graphs, "other", bytes(20))
    for size in (60, 80):
        keep(graphs, "key", bytes(size))
    assert graphs.read("key", load) == bytes(80)
    assert graphs.read("other", load) == bytes(20)


def test_a_lower_bound_holds_from_the_next_graph_on(tmp_path: Path) -> None:
    for key in "abcd":
        keep(DiskCache(tmp_path, 1000), key, bytes(68))
    graphs = DiskCache(tmp_path, 200)
    keep(graphs, "e", bytes(68))
    assert graphs.describe().bytes == 200


def test_without_a_bound_nothing_is_kept_read_or_claimed(tmp_path: Path) -> None:
    keep(DiskCache(tmp_path, 1000), "key", b"graph")
    graphs = DiskCache(tmp_path, 0)
    assert graphs.read("key", load) is None
    with graphs.claim("key", never) as keep_one, graphs.claim("key", never) as keep_other:
        keep_one(lambda file: file.write(b"graph"))
        keep_other(lambda file: file.write(b"graph"))
    assert DiskCache(tmp_path, 1000).describe().graphs == 1


def test_a_graph_that_is_evicted_is_read_to_its_end(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 2_000_000)
    keep(graphs, "old", b"x" * 1_500_000)

    def load_slowly(file: BinaryIO) -> bytes:
        start = file.read(1000)
        keep(graphs, "new", bytes(1_500_000))
        assert kept(graphs, "new") == ""
        assert not graphs._path("old").exists()
        return start + file.read()

    assert graphs.read("old", load_slowly) == b"x" * 1_500_000


def test_hits_misses_and_evictions_are_counted_over_all_processes(tmp_path: Path) -> None:
    def look(number: int) -> None:
        DiskCache(tmp_path, 1000).count(hit=number % 4 > 0)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(100)))
    found = DiskCache(tmp_path, 1000).describe()
    assert (found.hits, found.misses, found.evictions) == (75, 25, 0)


def test_truncated_counters_start_again(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 1000)
    graphs.count(hit=True)
    (tmp_path / "graphs" / "counters").write_bytes(b"cut")
    assert graphs.describe().hits == 0
    graphs.count(hit=True)
    assert graphs.describe().hits == 1


def test_a_claim_that_ends_without_a_graph_leaves_nothing(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 1000)
    with pytest.raises(ZeroDivisionError), graphs.claim("key", never):
        raise ZeroDivisionError
    assert left_over(tmp_path) == []


def test_a_waiting_process_ignores_the_lock_of_a_deleted_draft(tmp_path: Path) -> None:
    """The first gives up, and a newcomer is faster than the one that has waited for it."""
    graphs = DiskCache(tmp_path, 1000)
    holders = [ExitStack(), ExitStack()]
    holders[0].enter_context(graphs.claim("key", never))

    def wait() -> None:
        holders.pop(0).close()
        if len(holders) == 1:
            holders[0].enter_context(graphs.claim("key", never))

    with graphs.claim("key", wait) as keep_it:
        assert holders == []
        keep_it(lambda file: file.write(b"graph"))
    assert graphs.read("key", load) == b"graph"


def test_the_folder_may_be_deleted_at_any_time(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 1000)
    with graphs.claim("key", never) as keep_it:
        subprocess.run(["rm", "-r", tmp_path / "graphs"], check=True)
        keep_it(lambda file: file.write(b"graph"))
    assert graphs.read("key", load) is None
    keep(graphs, "key", b"graph")
    assert graphs.read("key", load) == b"graph"


def test_an_unusable_folder_fails_no_score(tmp_path: Path) -> None:
    (tmp_path / "graphs").write_text("a file, so that nothing can be made in it")
    graphs = DiskCache(tmp_path, 1000)
    keep(graphs, "key", b"graph")
    graphs.count(hit=False)
    assert graphs.read("key", load) is None
    assert graphs.describe().graphs == 0


# Processes of their own

BUILDER = """
import json, os, sys, time
from pathlib import Path
from consilience.stores.graph_cache import DiskCache

folder, limit, keys, size, seconds = Path(sys.argv[1]), *json.loads(sys.argv[2])
graphs = DiskCache(folder, limit)

def say(**words):
    print(json.dumps({"pid": os.getpid(), **words}), flush=True)

def look(file):
    return file.read()

input()
for key in keys:
    found, waited = graphs.read(key, look), []
    if found is None:
        with graphs.claim(key, lambda: waited or waited.append(1) or say(waits=key)) as keep:
            found = graphs.read(key, look)
            if found is None:
                say(builds=key)
                time.sleep(seconds)
                keep(lambda file: file.write(bytes(size)))
    say(has=key)
"""


class Builder:
    """A process that needs some graphs."""

    def __init__(self, folder: Path, keys: list[str], *, limit: int = 10**6, size: int = 1000, seconds: float) -> None:
        command = [sys.executable, "-c", BUILDER, str(folder), json.dumps([limit, keys, size, seconds])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def begin(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert line.pop("pid") == self.process.pid
        return line

    def end(self) -> list[dict[str, Any]]:
        out, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return [json.loads(line) for line in out.splitlines()]


@contextmanager
def builders(count: int, folder: Path, keys: list[str], **options: Any) -> Iterator[list[Builder]]:
    """Processes that have imported all they need, and wait for a word."""
    started = [Builder(folder, keys, **options) for _ in range(count)]
    try:
        yield started
    finally:
        for builder in started:
            builder.process.kill()
            builder.process.communicate()


def test_one_of_several_processes_builds_each_graph(tmp_path: Path) -> None:
    with (
        builders(1, tmp_path, ["a"], seconds=2.0) as (first,),
        builders(3, tmp_path, ["a", "b", "c"], seconds=0.2) as others,
    ):
        first.begin()
        assert first.hear() == {"builds": "a"}
        for other in others:
            other.begin()
            assert other.hear() == {"waits": "a"}
        lines = [line for builder in (first, *others) for line in builder.end()]
    assert sorted(line["builds"] for line in lines if "builds" in line) == ["b", "c"]
    assert sorted(line["has"] for line in lines if "has" in line) == sorted("a" + "abc" * 3)
    assert [path.suffix for path in left_over(tmp_path)] == ["", "", ""]


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_waiting_process_takes_over_from_a_killed_builder(tmp_path: Path, by: signal.Signals) -> None:
    with (
        builders(1, tmp_path, ["a"], seconds=60) as (first,),
        builders(2, tmp_path, ["a"], seconds=0.2) as others,
    ):
        first.begin()
        assert first.hear() == {"builds": "a"}
        for other in others:
            other.begin()
            assert other.hear() == {"waits": "a"}
        first.process.send_signal(by)
        killed = time.monotonic()
        lines = [line for other in others for line in other.end()]
        assert time.monotonic() - killed < 5
    assert [line["builds"] for line in lines if "builds" in line] == ["a"]
    assert [line["has"] for line in lines if "has" in line] == ["a", "a"]


def test_a_waiting_process_takes_over_from_a_failed_builder(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 1000)
    with builders(1, tmp_path, ["a"], limit=1000, size=10, seconds=0) as (other,):

        def fail() -> None:
            with graphs.claim("a", never):
                other.begin()
                assert other.hear() == {"waits": "a"}
                raise MemoryError

        with pytest.raises(MemoryError):
            fail()
        assert [set(line) - {"pid"} for line in other.end()] == [{"builds"}, {"has"}]


def test_drafts_of_a_killed_builder_are_deleted_and_active_drafts_stay(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 10**6)
    with builders(2, tmp_path, ["a"], seconds=60) as (killed, _):
        killed.begin()
        assert killed.hear() == {"builds": "a"}
        killed.process.kill()
        killed.process.wait()
        assert [path.suffix for path in left_over(tmp_path)] == [".draft"]
        with graphs.claim("under way", never) as keep_it:
            keep(graphs, "b", b"graph")
            assert sorted(path.suffix for path in left_over(tmp_path)) == ["", ".draft"]
            keep_it(lambda file: file.write(b"graph"))
    assert graphs.read("under way", load) == b"graph"
    assert len(left_over(tmp_path)) == 2


def test_data_of_a_killed_builder_are_not_part_of_the_next_graph(tmp_path: Path) -> None:
    graphs = DiskCache(tmp_path, 1000)
    draft = graphs._draft("key")
    draft.parent.mkdir(parents=True)
    draft.write_bytes(b"half of a graph, longer than the whole of the next")
    keep(graphs, "key", b"graph")
    assert graphs.read("key", load) == b"graph"


def test_the_bound_holds_while_many_write(tmp_path: Path) -> None:
    limit = 10 * (1000 + CHECKSUM)
    graphs = DiskCache(tmp_path, limit)
    with builders(4, tmp_path, [f"{n}" for n in range(60)], limit=limit, seconds=0) as crowd:
        for builder in crowd:
            builder.begin()
        most = 0
        while any(builder.process.poll() is None for builder in crowd):
            with graphs._counters.lock():  # nobody changes the folder while it is measured
                most = max(most, graphs.describe().bytes)
        assert {builder.process.wait() for builder in crowd} == {0}
    found = graphs.describe()
    assert (most, found.bytes, found.graphs) == (limit, limit, 10)
    assert found.evictions >= 50


FULL = """
import resource, sys
from pathlib import Path
from consilience.stores.graph_cache import DiskCache

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
graphs = DiskCache(Path(sys.argv[1]), 10**9)
with graphs.claim("key", lambda: None) as keep:
    keep(lambda file: file.write(bytes(2_000_000)))
print(graphs.describe().graphs)
"""


def test_a_full_disk_fails_no_score_and_stores_nothing(tmp_path: Path) -> None:
    """The limit on a file's size stands for a full disk: it needs no rights."""
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "0"
    assert left_over(tmp_path) == []
