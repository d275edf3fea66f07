"""The command in this process, with its exit status and its output; and files to run it on."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from consilience.cli import main


class CommandResult(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., CommandResult]


@pytest.fixture
def consilience(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `consilience("score", a, b)` in a terminal of 80 columns without colours."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("CONSILIENCE_SERVER", "CONSILIENCE_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["consilience", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return CommandResult(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of 64 rows: b is a after a rotation and with a little noise."""
    random = np.random.default_rng(0)
    a = random.standard_normal((64, 8)).astype(np.float32)
    rotation, _ = np.linalg.qr(random.standard_normal((8, 8)))
    b = a @ rotation.astype(np.float32) + 0.05 * random.standard_normal((64, 8)).astype(np.float32)
    return save(tmp_path / "a.npy", a), save(tmp_path / "b.npy", b)


@pytest.fixture
def constant(tmp_path: Path) -> Path:
    """A file of equal rows, for which no score is defined."""
    return save(tmp_path / "constant.npy", np.ones((64, 8), np.float32))


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def list_commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of a group and its subgroups, by its words."""
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from list_commands(command, f"{before}{word} ")
        else:
            yield before + word, command
