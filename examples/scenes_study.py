"""The first study: whether a caption that says more comes nearer to the pixels of what it describes.

Every scene of `scenes` is a program, the picture that it draws, and captions at five levels of detail. `baseline:pixels` sees
the picture; MiniLM reads a caption or the program; random rows read nothing. All sets are made by identifiers, by a service:

    consilience serve &
    python examples/scenes_study.py --server http://127.0.0.1:8000 --out docs/scenes.md

writes the table between the two marks of that page.
"""

import argparse
from pathlib import Path

from consilience.client.sync import Client
from consilience.contract.extraction import Extraction
from consilience.contract.metrics import Cka, MutualKnn
from consilience.contract.scores import Score, ScoreDocument

DATASET = "scenes:n=512,seed=0"
PICTURES = Extraction(model="baseline:pixels", dataset=DATASET, view="image")
READERS = ("hf:all-MiniLM-L6-v2", "baseline:tfidf-svd", "baseline:random")
VIEWS = ("caption_1", "caption_2", "caption_3", "caption_4", "caption_5", "code")
METRICS = (MutualKnn(k=(10,)), Cka())
BEGIN, END = "<!-- table -->", "<!-- end -->"


def main() -> None:
    """Ask for every pair, and write the table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--server", default="http://127.0.0.1:8000")
    words.add_argument("--out", type=Path, default=Path("docs/scenes.md"))
    given = words.parse_args()
    with Client(given.server) as client:
        rows = [row for model in READERS for view in VIEWS for row in measure(client, model, view)]
    table = "\n".join([*HEAD, *rows])
    page = given.out.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    given.out.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
    print(table)


def measure(client: Client, model: str, view: str) -> list[str]:
    """Return the table rows of one model and one view: its best layer against the pixels."""
    if model == "baseline:random" and view != "code":
        return []  # it knows nothing of any view: one is enough
    read = Extraction(model=model, dataset=DATASET, view=view)
    layers = {"a": "last", "b": "all"}
    document = client.align(PICTURES, read, metrics=METRICS, layers=layers, pairing="id").wait()
    return [show(model, view, document, score) for score in document.scores]


HEAD = (
    "| reader | view | metric | score | layer | by chance | above chance with p < 0.05 | p | 95 % interval | calibrated |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


def show(model: str, view: str, document: ScoreDocument, score: Score) -> str:
    """One row."""
    null, interval = score.null, score.interval
    cells = (
        f"`{model}`",
        f"`{view}`",
        score.metric,
        number(score.value),
        f"{score.layer_b} of {len(document.b.layers)}",
        number(null.mean if null else None),
        number(null.threshold if null else None),
        "" if null is None or null.p_value is None else f"{'≤' if null.p_is_bound else ''} {null.p_value:.2g}".strip(),
        "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}",
        number(score.calibrated),
    )
    return f"| {' | '.join(cells)} |"


def number(value: float | None) -> str:
    """Four digits, or nothing."""
    return "" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    main()
