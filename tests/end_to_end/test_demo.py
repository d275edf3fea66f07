"""`make demo`, as a user runs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from consilience.contract.scores import ScoreDocument
from tests.serving import gone, until

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def test_the_demo_prints_scores_writes_its_document_and_stops_all_processes(tmp_path: Path) -> None:
    before = set(psutil.pids())
    ran = subprocess.run([sys.executable, DEMO], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    for word in ("mutual_knn k=10", "0.2107", "< 1e-12", "6 / 6", "out/demo.json", "Everything is stopped"):
        assert word in ran.stdout
    document = ScoreDocument.model_validate_json((tmp_path / "out" / "demo.json").read_text())
    assert len(document.scores) == 3
    left = [process for process in psutil.process_iter(["cmdline"]) if process.pid not in before]
    assert not [process for process in left if "consilience-demo-" in " ".join(process.info["cmdline"] or ())]


def test_ctrl_c_ends_the_demo_with_a_message_and_stops_all_processes(tmp_path: Path) -> None:
    command = [sys.executable, DEMO]
    demo = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        until(lambda: len(psutil.Process(demo.pid).children(recursive=True)) > 1)
        descendants = psutil.Process(demo.pid).children(recursive=True)
        os.killpg(demo.pid, signal.SIGINT)  # a terminal sends it to the whole group
        _, errors = demo.communicate(timeout=30)
    finally:
        demo.kill()
    assert (demo.returncode, errors) == (1, "Interrupted; everything is stopped.\n")
    until(lambda: gone(descendants))
