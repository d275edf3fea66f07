"""`consilience doctor`, as a command on a real data folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from consilience.formats.files import from_vectors
from consilience.stores.blobs import BlobStore, set_digest
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords

COMMAND = Path(sys.executable).with_name("consilience")


@pytest.fixture
def folder(tmp_path: Path, sqlite_model: Path) -> Path:
    """A data folder with one set."""
    path = tmp_path / "data"
    blobs = BlobStore(path)
    shutil.copy(sqlite_model, path / "consilience.db")
    database = Database(f"sqlite:///{path / 'consilience.db'}")
    layers = blobs.put(from_vectors([[float(row)] for row in range(5)]))
    EmbeddingRecords(database).add("docs", 5, layers, set_digest(layers), {}, 20)
    database.close()
    return path


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(COMMAND), "doctor", *words], capture_output=True, text=True, timeout=60, check=False)


def test_a_sound_data_folder_has_exit_status_0(folder: Path) -> None:
    ended = doctor("--data-dir", str(folder), "--deep")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "Checked 0 jobs, 1 sets, 0 datasets and 1 blobs: passed.\n"


def test_a_missing_blob_is_named_with_exit_status_1(folder: Path) -> None:
    (blob,) = folder.glob("layers/*/*")
    blob.unlink()
    ended = doctor("--data-dir", str(folder))
    assert ended.returncode == 1
    assert "damaged-layer" in ended.stdout
    assert ended.stderr == "Checked 0 jobs, 1 sets, 0 datasets and 0 blobs: failed.\n"


def test_the_report_is_printed_as_json(folder: Path) -> None:
    ended = doctor("--database-url", f"sqlite:///{folder}/consilience.db", "--data-dir", str(folder), "--json")
    assert json.loads(ended.stdout) == {"passed": True, "jobs": 0, "sets": 1, "datasets": 0, "blobs": 1, "issues": []}
    (folder / "layers" / "stray").write_text("x")
    (issue,) = json.loads(doctor("--data-dir", str(folder), "--json").stdout)["issues"]
    assert (issue["severity"], issue["kind"]) == ("error", "stray-file")


def test_a_folder_without_service_data_has_exit_status_2(tmp_path: Path) -> None:
    ended = doctor("--data-dir", str(tmp_path))
    assert ended.returncode == 2
    assert "is not a data folder: it has no folder 'layers'." in ended.stderr
