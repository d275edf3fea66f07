"""Error rates of p-values and coverage of intervals: `python -m benchmarks.evidence [--pairs 1000] [--quick] [--write]`.

Type-I error of every metric's default p-value on unrelated spaces, and coverage of every metric's 95 % interval on related
ones. Results in out/evidence.json; `--write` puts them into docs/evidence.json and docs/evidence.md.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks.evidence_data import BY_NAME, Data, N
from benchmarks.evidence_page import render
from consilience.contract.metrics import METRICS
from consilience.contract.scores import Score
from consilience.scoring import score

ROOT = Path(__file__).parents[1]
OUT, KEPT, PAGE = ROOT / "out" / "evidence.json", ROOT / "docs" / "evidence.json", ROOT / "docs" / "evidence.md"
PAIRS, PAIRS_QUICK = 1000, 100
BLOCK = 20
Z = 1.959964
#: What one sample says of one metric: p and its draws, or value, low and high, or why there is none.
Finding = dict[str, object]


def level_of(data: Data, indices: range, seed: int = 0) -> list[dict[str, Finding]]:
    """Compute the default p-value of each metric for each sample."""
    return [
        {
            entry.metric: _find_p(entry)
            for names, draws in data.parts()
            for entry in score(
                *data.sample(index, seed), metrics=names, interval=None, null={"permutations": draws}, seed=index
            ).scores
        }
        for index in indices
    ]


def coverage_of(data: Data, indices: range, seed: int = 0) -> list[dict[str, Finding]]:
    """Compute the value and the interval of each metric for each sample."""
    return [
        {
            entry.metric: _find_interval(entry)
            for entry in score(
                *data.sample(index, seed), metrics=data.metrics, null={"method": "none"}, seed=index
            ).scores
        }
        for index in indices
    ]


def _find_p(entry: Score) -> Finding:
    if entry.null.p_value is None:
        reason = entry.reason or entry.null.reason
        return {"missing": reason.code if reason else "none"}
    return {"p": entry.null.p_value, "null": entry.null.method, "draws": entry.null.permutations}


def _find_interval(entry: Score) -> Finding:
    if entry.interval is None:
        return {"missing": entry.reason.code if entry.reason else " ".join(entry.warnings)}
    found = entry.interval
    return {"value": entry.value, "low": found.low, "high": found.high, "method": found.method}


def sum_up_level(data: Data, found: list[dict[str, Finding]]) -> Iterator[dict[str, object]]:
    """Compute the share of samples with a p-value of at most 5 % and 1 %, for each metric."""
    for metric in data.metrics:
        findings = [one[metric] for one in found]
        row: dict[str, object] = {"data": data.name, "metric": metric, "pairs": len(findings)}
        missing = [one["missing"] for one in findings if "missing" in one]
        if missing:
            yield row | {"missing": missing[0], "times": len(missing)}
            continue
        p = np.array([one["p"] for one in findings], dtype=float)
        facts = {"null": findings[0]["null"], "draws": findings[0]["draws"]}
        yield row | facts | {"at_5": round(float(np.mean(p <= 0.05)), 4), "at_1": round(float(np.mean(p <= 0.01)), 4)}


def sum_up_coverage(data: Data, found: list[dict[str, Finding]]) -> Iterator[dict[str, object]]:
    """Compute the share of intervals that contain the mean, and their width relative to the samples' spread."""
    for metric in data.metrics:
        findings = [one[metric] for one in found]
        row: dict[str, object] = {"data": data.name, "metric": metric, "samples": len(findings)}
        missing = [one["missing"] for one in findings if "missing" in one]
        if missing:
            yield row | {"missing": missing[0], "times": len(missing)}
            continue
        low, high = (np.array([one[end] for one in findings], dtype=float) for end in ("low", "high"))
        values = np.array([one["value"] for one in findings], dtype=float)
        centres = (low + high) / 2 if findings[0]["method"] == "held-out" else values
        target, sd = float(centres.mean()), float(centres.std(ddof=1))
        yield row | {
            "method": findings[0]["method"],
            "mean_value": round(float(values.mean()), 4),
            "target": round(target, 4),
            "sd": round(sd, 5),
            "covered": round(float(np.mean((low <= target) & (target <= high))), 4),
            "width_ratio": round(float(np.mean(high - low)) / (2 * Z * sd), 3),
        }


def measure(pairs: int, metrics: tuple[str, ...] = tuple(METRICS)) -> dict[str, object]:
    """Measure some metrics on some number of samples of each kind of data, in as many processes as there are cores."""
    workers = len(os.sched_getaffinity(0))
    results: dict[str, object] = {"n": N, "pairs": pairs, "level": [], "coverage": []}
    with _single_threads(), ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for kind, task, sum_up in (("level", level_of, sum_up_level), ("coverage", coverage_of, sum_up_coverage)):
            for whole in BY_NAME[kind].values():
                data = replace(whole, metrics=tuple(name for name in whole.metrics if name in metrics))
                if data.metrics:
                    begun = time.perf_counter()
                    blocks = [range(start, min(pairs, start + BLOCK)) for start in range(0, pairs, BLOCK)]
                    found = list(
                        chain.from_iterable(pool.map(partial(_work, task, kind, data.name, data.metrics), blocks))
                    )
                    results[kind] += sum_up(data, found)  # type: ignore[operator]  # a list
                    print(f"{kind}, {data.name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return results | {"processor_minutes": round((used.ru_utime + used.ru_stime) / 60, 1), "processes": workers}


def _work(
    task: Callable[[Data, range], list[dict[str, Finding]]],
    kind: str,
    name: str,
    metrics: tuple[str, ...],
    indices: range,
) -> list[dict[str, Finding]]:
    """Run in a process, which knows kinds of data by name."""
    return task(replace(BY_NAME[kind][name], metrics=metrics), indices)


@contextmanager
def _single_threads() -> Iterator[None]:
    """One thread for each process started here: samples are small, and there are many."""
    before = os.environ.copy()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        yield
    finally:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            del os.environ[name]
        os.environ |= before


def main() -> None:
    """Measure, and write the figures and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="samples of each kind of data")
    parser.add_argument("--quick", action="store_true", help=f"only {PAIRS_QUICK} samples")
    parser.add_argument("--write", action="store_true", help="into docs/ as well")
    options = parser.parse_args()
    results = measure(PAIRS_QUICK if options.quick else options.pairs)
    text = json.dumps(results, indent=1) + "\n"
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(text)
    if options.write:
        KEPT.write_text(text)
        PAGE.write_text(render(results))
    print(render(results))


if __name__ == "__main__":
    main()
