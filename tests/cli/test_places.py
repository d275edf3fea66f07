"""Places for files, before anything is computed."""

import os
from pathlib import Path

import pytest

from consilience.cli.options import require_place
from consilience.errors import InputError


def test_a_new_file_in_new_folders_is_welcome_and_nothing_is_made_yet(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / "scores.json"
    assert require_place(out) == out
    assert list(tmp_path.iterdir()) == []
    assert require_place(None) is None


def test_below_a_file_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file is no folder\. Name another file\."):
        require_place(tmp_path / "file" / "scores.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="who may write everything has no read-only files")
def test_a_read_only_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scores.json").touch(0o400)
    with pytest.raises(InputError, match="read-only"):
        require_place(tmp_path / "scores.json")


def test_a_file_that_is_there_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("{}")
    require_place(tmp_path / "scores.json")
    assert (tmp_path / "scores.json").read_text() == "{}"
