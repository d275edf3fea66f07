"""`make faults`: faults done to a real service under load, and what became of its jobs.

`python -m benchmarks.faults [--times N] [--database sqlite] [word ...]` does the kinds whose name holds one of the words. The
table goes to the terminal and, with all that was measured, to out/faults.json. Status 1 where a promise was broken.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults.episode import Result, try_kind
from benchmarks.faults.kinds import KINDS
from benchmarks.faults.live_service import Postgresql, run_service
from benchmarks.faults.scarcity import SCARCITIES

OUT = Path("out") / "faults.json"
DATABASES = ("sqlite", "postgresql")
COLUMNS = ("faults", "accepted", "finished", "lost", "doubled", "jobs_s", "whole_s", "restart_s")


def main() -> int:
    """Do every fault on each database; 1 where a promise was broken."""
    options = _parse()
    options.out.parent.mkdir(exist_ok=True)
    results: list[Result] = []
    for database in options.database or DATABASES:
        for result in _run(database, options.times, options.words):
            results.append(result)
            options.out.write_text(json.dumps([asdict(each) for each in results], indent=2) + "\n")
    _print(results)
    return int(not all(result.kept for result in results))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--times", type=int, default=3, help="faults of each kind")
    parser.add_argument("--database", action="append", choices=DATABASES, help="default: both")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("words", nargs="*", help="kinds whose name holds one of these")
    return parser.parse_args()


def _run(database: str, times: int, words: list[str]) -> Iterator[Result]:
    kinds = [each for each in (*KINDS, *SCARCITIES) if database in each.databases]
    kinds = [each for each in kinds if not words or any(word in each.name for word in words)]
    postgresql = Postgresql() if database == "postgresql" else None
    try:
        for kind in kinds:
            began = time.monotonic()
            try:
                with run_service(postgresql, kind.settings) as built:
                    result = try_kind(kind, built, postgresql, database, times)
            except Exception as error:  # noqa: BLE001 - one kind that cannot be tried must not cost the figures of the others
                result = Result(kind.name, database, remarks=[f"not tried to the end: {error!r}"])
            print(f"{database}: {kind.name}: {time.monotonic() - began:.0f} s", *result.remarks, sep="\n  ", flush=True)
            yield result
    finally:
        if postgresql:
            postgresql.stop()


def _print(results: list[Result]) -> None:
    print(f"\n| fault | database | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 2)}")
    for each in results:
        cells = (getattr(each, column) for column in COLUMNS)
        print(f"| {each.kind} | {each.database} | {' | '.join('' if cell is None else str(cell) for cell in cells)} |")


if __name__ == "__main__":
    sys.exit(main())
