"""Run every benchmark, or those named: `python -m benchmarks [latency memory ...]`; results in out/benchmarks.json."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    cluster,
    engine,
    extraction,
    graphs,
    lanes,
    latency,
    maps,
    memory,
    models,
    references,
    restart,
    scale,
    start,
    studies,
)

BENCHMARKS: dict[str, Callable[[], dict[str, object]]] = {
    "start": start.measure,
    "restart": restart.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "engine": engine.measure,
    "graphs": graphs.measure,
    "lanes": lanes.measure,
    "maps": maps.measure,
    "cluster": cluster.measure,
    "scale": scale.measure,
    "models": models.measure,
    "references": references.measure,
    "extraction": extraction.measure,
    "studies": studies.measure,
}
OUT = Path("out") / "benchmarks.json"


def main(names: list[str]) -> None:
    """Measure, print, and write the figures beside those of earlier runs of other benchmarks."""
    results = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in names or BENCHMARKS:
        print(f"{name} ...", flush=True)
        results[name] = BENCHMARKS[name]()
        print(json.dumps(results[name], indent=2))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {OUT}")


if __name__ == "__main__":
    main(sys.argv[1:])
