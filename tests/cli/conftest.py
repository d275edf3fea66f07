"""The command as a user runs it, in this process: its status and what it wrote."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from consilience.cli import main


class Ran(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture
def consilience(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`consilience("score", a, b)`; a terminal of 80 columns without colours."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("CONSILIENCE_SERVER", "CONSILIENCE_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["consilience", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of 64 rows: b is a, rotated and with a little noise."""
    random = np.random.default_rng(0)
    a = random.standard_normal((64, 8)).astype(np.float32)
    rotation, _ = np.linalg.qr(random.standard_normal((8, 8)))
    b = a @ rotation.astype(np.float32) + 0.05 * random.standard_normal((64, 8)).astype(np.float32)
    return save(tmp_path / "a.npy", a), save(tmp_path / "b.npy", b)


@pytest.fixture
def constant(tmp_path: Path) -> Path:
    """A file whose rows are all the same: no score of it is defined."""
    return save(tmp_path / "constant.npy", np.ones((64, 8), np.float32))


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path
