"""The command as a process: version, help, imports, interruption, time limits and exit statuses."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer

from consilience import __version__
from consilience.cli.app import app
from consilience.cli.errors import ExitStatus, exit_status
from consilience.errors import (
    ConsilienceError,
    JobCrashed,
    NotFound,
    StartupError,
    TooFewRows,
    Unavailable,
    Unreachable,
    WaitTimedOut,
)
from tests.cli.conftest import Command, list_commands, save

COMMAND = Path(sys.executable).with_name("consilience")


@pytest.fixture(scope="module")
def long_work(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command that takes many seconds in this process."""
    folder = tmp_path_factory.mktemp("long")
    file = save(folder / "a.npy", np.random.default_rng(0).standard_normal((40_000, 64)).astype(np.float32))
    return [str(COMMAND), "score", str(file), str(file), "--metric", "mutual_knn"]


def test_the_version_is_that_of_the_package(consilience: Command) -> None:
    assert consilience("--version") == (0, f"consilience {__version__}\n", "")


@pytest.mark.parametrize("words", [(), ("nonsense",), ("jobs", "nonsense")])
def test_an_unknown_command_is_bad_usage(consilience: Command, words: tuple[str, ...]) -> None:
    assert consilience(*words).status == 2


def test_help_lists_every_command_and_status(consilience: Command) -> None:
    ran = consilience("--help")
    assert ran.status == 0
    for word in ("score", "check", "upload", "jobs", "serve", "metrics", "130"):
        assert word in ran.out


def test_metrics_are_listed(consilience: Command) -> None:
    ran = consilience("metrics")
    assert ran.status == 0
    assert "mutual_knn" in ran.out


def test_help_imports_neither_numerics_nor_the_server() -> None:
    heavy = ("numpy", "faiss", "torch", "fastapi", "sqlalchemy", "consilience.scoring", "consilience.standalone.serve")
    program = f"import sys; sys.modules.update(dict.fromkeys({heavy!r})); from consilience.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, "--help"], check=True, stdout=subprocess.DEVNULL)


def test_scoring_without_numpy_reports_how_to_install_it(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    file.write_bytes(b"")
    program = "import sys; sys.modules['numpy'] = None; from consilience.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, "score", file, file], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert "consilience[compute]" in ran.stderr.replace("\n", "")


def test_a_time_limit_ends_local_work_with_status_5(long_work: list[str]) -> None:
    ran = subprocess.run([*long_work, "--timeout", "1"], check=False, capture_output=True, text=True)
    assert ran.returncode == 5
    assert ran.stdout == ""


def test_an_interruption_ends_with_status_130(long_work: list[str]) -> None:
    with subprocess.Popen(long_work, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TooFewRows, 2),
        (NotFound, 2),
        (StartupError, 2),
        (Unreachable, 3),
        (Unavailable, 3),
        (JobCrashed, 4),
        (WaitTimedOut, 5),
        (ConsilienceError, 2),
    ],
)
def test_each_kind_of_error_has_its_status(error: type[ConsilienceError], status: int) -> None:
    assert exit_status(error("x")) == ExitStatus(status)


def test_serve_reads_its_settings_from_the_environment_too(
    consilience: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIENCE_WORKERS", "0")
    ran = consilience("serve", "--port", "0")
    assert (ran.status, "CONSILIENCE_WORKERS" in ran.err) == (2, True)


def test_brackets_in_the_formula_of_a_metric_are_printed(consilience: Command) -> None:
    ran = consilience("metrics", "eigenspace_overlap")
    assert ran.status == 0
    assert "[ab + (p - a)(q - b) / (n - 1)]" in ran.out


def test_check_without_a_threshold_is_bad_usage(consilience: Command, tmp_path: Path) -> None:
    ran = consilience("check", str(tmp_path / "a.npy"), str(tmp_path / "b.npy"))
    assert ran.status == 2
    assert "--min mutual_knn=0.3" in ran.err


@pytest.mark.parametrize(("threshold", "status"), [("0.1", 0), ("0.99999", 1)])
def test_a_closed_pipe_does_not_change_the_exit_status(
    pair: tuple[Path, Path], tmp_path: Path, threshold: str, status: int
) -> None:
    out = tmp_path / "scores.json"
    words = [str(COMMAND), "check", *map(str, pair), "--min", f"mutual_knn={threshold}", "--out", str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(30) == status
    assert out.exists()
    assert "error" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full exists only on Linux")
def test_a_full_disk_is_reported() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run([COMMAND, "metrics"], check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (ran.returncode, ran.stderr) == (
        2,
        "error: The output cannot be read or written: No space left on device.\n",
    )


def test_json_is_not_wrapped_in_a_narrow_terminal(consilience: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = consilience("metrics", "--json").out
    monkeypatch.setenv("COLUMNS", "20")
    assert consilience("metrics", "--json").out == wide
    assert json.loads(wide)


@pytest.mark.parametrize("name", [name for name, _ in list_commands(typer.main.get_command(app))])
def test_every_command_and_every_option_has_a_help_text(consilience: Command, name: str) -> None:
    ran = consilience(*name.split(), "--help")
    assert (ran.status, "Usage:" in ran.out) == (0, True)
    command = dict(list_commands(typer.main.get_command(app)))[name]
    assert [each.name for each in command.params if not each.help] == []
