"""The whole service at work, on one question: how far do docstrings and their code share a space.

Starts a whole Consilience on a free port, uploads two real embedding sets over HTTP, aligns every layer of one with
every layer of the other, prints what came out and stops everything. Run it with `make demo`.

The data: 512 functions of the Python standard library, docstrings and bodies, each embedded by a sentence-embedding
model; all 7 hidden layers, (512, 7, 384) float16.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from consilience.cli.output import score_table
from consilience.cli.remote import report_job
from consilience.client.sync import Client
from consilience.contract.metrics import Cka, MutualKnn
from consilience.contract.scores import ScoreDocument
from examples.heat import heat_map

DATA = Path(__file__).parent / "data"
OUT = Path("out") / "demo.json"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20


def main() -> None:
    """Start, upload, align, show, stop."""
    started = time.monotonic()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="consilience-demo-") as folder, running_service(Path(folder)) as url:
        console.print(f"Consilience runs at {url}", highlight=False)
        document = align(console, url)
    show(console, document)
    console.print(f"Everything is stopped again; {time.monotonic() - started:.1f} s in all.", highlight=False)


@contextmanager
def running_service(folder: Path) -> Iterator[str]:
    """`consilience serve` on a free port with its data in `folder`, stopped at the end; gives its address."""
    command = [sys.executable, "-m", "consilience.cli", "serve", "--port", "0", "--data-dir", str(folder / "data")]
    log = folder / "serve.log"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield read_url(process, log)
    finally:
        process.terminate()
        process.communicate(timeout=STOP_TIMEOUT_S)


def read_url(process: subprocess.Popen[str], log: Path) -> str:
    """Return the address that the service prints when it is ready."""
    for line in process.stdout or ():
        if line.strip().startswith("API"):
            return line.split()[1].removesuffix("/v1")
    sys.exit(f"The service did not start:\n{log.read_text()}")


def align(console: Console, url: str) -> ScoreDocument:
    """Upload both sets, submit the grid of layers, and watch the job."""
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Client(url) as client, Progress(*columns, console=console) as progress:
        uploads = progress.add_task("uploading", total=2)
        docs = client.upload(DATA / "dev_docs.npy")
        progress.advance(uploads)
        code = client.upload(DATA / "dev_code.npy")
        progress.advance(uploads)
        alignment = client.align(
            docs,
            code,
            metrics=(MutualKnn(k=(10,)), Cka(), Cka(debiased=False)),
            layers="all",
            preparation="prh",
            metadata={"from": "the demo"},
        )
        task = progress.add_task("aligning", total=None)

        def report(stage: str, done: int, total: int) -> None:
            progress.update(task, description=stage, completed=done, total=total)

        return alignment.wait(watch=lambda job: report_job(report, job))


def show(console: Console, document: ScoreDocument) -> None:
    """Print the scores as a table, and write each grid as a heat map and the document as a file."""
    console.print(score_table(document))
    for score in document.scores:
        console.print(heat_map(score, document.a, document.b))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(document.model_dump_json(by_alias=True, indent=2) + "\n")
    console.print(f"The score document: {OUT}", highlight=False)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted; everything is stopped.")
