"""`python -m examples.claims [NAME ...]`: the article's claims, tried on small things through a service of one's own.

Everything runs offline: the data is scikit-learn's digits, functions of Python's standard library, and scenes that are
drawn here. Each claim leaves a page and a picture in `--out`; what does not show is said as plainly as what does.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from consilience.client.sync import Client
from examples.claims.chance import gallery, meaning
from examples.claims.finding import Finding
from examples.claims.learning import capacity, simplicity, tasks
from examples.claims.modalities import captions, docstrings
from examples.demo import running_service

CLAIMS: dict[str, Callable[[Client], Finding]] = {
    claim.__name__: claim for claim in (capacity, tasks, simplicity, docstrings, captions, gallery, meaning)
}


def main() -> None:
    """Try the claims that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m examples.claims", description="The article's claims, run here.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which, of: {', '.join(CLAIMS)}; by default all")
    parser.add_argument("--out", type=Path, default=Path("out") / "claims", help="folder of pages and pictures")
    parser.add_argument("--server", help="a service that runs already; by default one of their own")
    given = parser.parse_args()
    if unknown := set(given.names) - set(CLAIMS):
        parser.error(f"there is no claim {', '.join(sorted(unknown))}; there are {', '.join(CLAIMS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    names = given.names or list(CLAIMS)
    if given.server:
        run(given.server, names, given.out)
        return
    with tempfile.TemporaryDirectory(prefix="consilience-claims-") as folder, running_service(Path(folder)) as url:
        run(url, names, given.out)


def run(url: str, names: list[str], out: Path) -> None:
    """Try these claims with the service there."""
    with Client(url) as client:
        for name in names:
            started = time.monotonic()
            finding = CLAIMS[name](client)
            finding.write(out)
            print(
                f"{finding.title}\n  {finding.verdict}\n  {out / name}.md, {time.monotonic() - started:.0f} s\n",
                flush=True,
            )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted; everything is stopped.")
