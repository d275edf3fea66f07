"""`consilience doctor`, as a command on a real data folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from consilience.formats.files import from_vectors
from consilience.stores.blobs import Blobs, set_digest
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords

COMMAND = Path(sys.executable).with_name("consilience")


@pytest.fixture
def folder(tmp_path: Path, sqlite_model: Path) -> Path:
    """A data folder with one set."""
    place = tmp_path / "data"
    blobs = Blobs(place)
    shutil.copy(sqlite_model, place / "consilience.db")
    database = Database(f"sqlite:///{place / 'consilience.db'}")
    layers = blobs.put(from_vectors([[float(row)] for row in range(5)]))
    EmbeddingRecords(database).add("docs", 5, layers, set_digest(layers), {}, 20)
    database.close()
    return place


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(COMMAND), "doctor", *words], capture_output=True, text=True, timeout=60, check=False)


def test_a_sound_folder_is_status_0(folder: Path) -> None:
    ended = doctor("--data-dir", str(folder), "--deep")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "0 jobs, 1 sets, 0 datasets, 1 blobs: sound.\n"


def test_a_missing_blob_is_status_1_and_named(folder: Path) -> None:
    (blob,) = folder.glob("layers/*/*")
    blob.unlink()
    ended = doctor("--data-dir", str(folder))
    assert ended.returncode == 1
    assert "damaged-layer" in ended.stdout
    assert ended.stderr == "0 jobs, 1 sets, 0 datasets, 0 blobs: not sound.\n"


def test_programs_read_json(folder: Path) -> None:
    ended = doctor("--database-url", f"sqlite:///{folder}/consilience.db", "--data-dir", str(folder), "--json")
    assert json.loads(ended.stdout) == {"sound": True, "jobs": 0, "sets": 1, "datasets": 0, "blobs": 1, "findings": []}
    (folder / "layers" / "stray").write_text("x")
    (finding,) = json.loads(doctor("--data-dir", str(folder), "--json").stdout)["findings"]
    assert (finding["severity"], finding["kind"]) == ("error", "stray-file")


def test_a_place_where_no_service_was_is_status_2(tmp_path: Path) -> None:
    ended = doctor("--data-dir", str(tmp_path))
    assert ended.returncode == 2
    assert "This is no data folder." in ended.stderr
