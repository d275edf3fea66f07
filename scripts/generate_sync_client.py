"""Write consilience/client/sync.py from consilience/client/aio.py: `make client`. A test compares the two.

The synchronous client is the asynchronous one without `async` and `await`, and with other names for what does the I/O.
"""

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "consilience" / "client"
SOURCE, TARGET = CLIENT / "aio.py", CLIENT / "sync.py"
#: Applied in this order to the code, its docstrings and its comments.
REPLACEMENTS = (
    (
        r"# `make client` writes sync\.py from this module\.",
        "# Generated from aio.py by `make client`. Edit that module.",
    ),
    (r"\basync (?=def|with|for)", ""),
    (r"\bawait ", ""),
    (r"\bAsynchronous\b", "Synchronous"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b__a(?=enter__|exit__)", "__"),
    (r"\baclose\b", "close"),
    (r"\basyncio\b", "time"),
    (r"\bstream_body\b", "read_body"),
)


def render() -> str:
    """Return the synchronous client's module, formatted."""
    text = SOURCE.read_text(encoding="utf-8")
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    sorted_imports = _ruff(text, "check", "--select", "I", "--fix", "--quiet")
    return _ruff(sorted_imports, "format", "--quiet")


def _ruff(text: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(TARGET), "-"]
    run = subprocess.run(command, input=text, capture_output=True, check=True, encoding="utf-8")
    return run.stdout


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
