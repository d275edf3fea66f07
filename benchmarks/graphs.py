"""Exact neighbour graphs against `faiss.knn` and against the plain product of all rows, in turns, in one warm process.

Seconds are the best of some rounds, in each of which every contender has its turn; ratios are of those. `faiss.knn` is called
for one more neighbour, because it finds every row itself.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

#: n, dim, k, rounds.
SHAPES = ((2048, 768, 48, 9), (8192, 768, 48, 7), (16384, 1024, 10, 5), (16384, 1024, 48, 5), (65536, 768, 10, 2))
#: Rows of a stripe of the plain product, so that it needs no n x n memory.
STRIPE_ROWS = 4096


def measure() -> dict[str, object]:
    """Each shape in a process of its own."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "shapes": [json.loads(_run(*map(str, shape))) for shape in SHAPES],
    }


def _run(*words: str) -> str:
    command = [sys.executable, "-m", "benchmarks.graphs", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure_shape(n: int, dim: int, k: int, rounds: int) -> dict[str, object]:
    """Measure rows without structure, the hardest to verify: seconds and ratios of each builder, and their agreement."""
    import faiss

    from consilience.numerics.knn.build import build_graph

    x = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    ways: dict[str, Callable[[], object]] = {
        "faiss": lambda: faiss.knn(x, x, k + 1, metric=faiss.METRIC_INNER_PRODUCT),
        "product": lambda: _multiply(x),
        "symmetric": lambda: build_graph(x, k, builder="symmetric"),
        "verified_bf16": lambda: build_graph(x, k, builder="verified_bf16"),
    }
    build_graph(x[:1024], k, builder="verified_bf16")  # imports torch
    best = _take_turns(ways, rounds)
    similarities, ids = (found[:, 1:] for found in ways["faiss"]())  # type: ignore[attr-defined]  # it gives a pair
    return {
        "n": n,
        "dim": dim,
        "k": k,
        "seconds": {name: round(seconds, 4) for name, seconds in best.items()},
        "over_faiss": {name: round(best[name] / best["faiss"], 2) for name in ("symmetric", "verified_bf16")},
        "over_product": {name: round(best[name] / best["product"], 2) for name in ("symmetric", "verified_bf16")},
        "agreement": {
            name: _compare(build_graph(x, k, builder=name), ids, similarities)  # type: ignore[arg-type]  # it is one of them
            for name in ("symmetric", "verified_bf16")
        },
    }


def _take_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def _multiply(x: np.ndarray) -> None:
    out = np.empty((min(STRIPE_ROWS, len(x)), len(x)), np.float32)
    for start in range(0, len(x), STRIPE_ROWS):
        rows = x[start : start + STRIPE_ROWS]
        np.matmul(rows, x.T, out=out[: len(rows)])


def _compare(graph: object, ids: np.ndarray, similarities: np.ndarray) -> dict[str, object]:
    """Compare the ids at the same ranks, and the similarities, which ties can change only by rounding."""
    return {
        "same_ids": round(float((graph.ids == ids).mean()), 6),  # type: ignore[attr-defined]  # a NeighbourGraph
        "largest_difference": float(np.abs(graph.similarities - similarities).max()),  # type: ignore[attr-defined]  # the same
        "verified": graph.verified,  # type: ignore[attr-defined]  # the same
    }


if __name__ == "__main__":
    print(json.dumps(measure_shape(*map(int, sys.argv[1:]))))
