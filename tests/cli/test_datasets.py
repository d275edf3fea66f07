from pathlib import Path

import pytest

from consilience.cli.datasets import parse_views
from consilience.errors import InvalidRequest
from tests.cli.conftest import Command


def test_views_are_names_and_kinds() -> None:
    assert parse_views("caption=text,photo=image") == {"caption": "text", "photo": "image"}
    assert parse_views(None) is None


@pytest.mark.parametrize("words", ["", "caption", "caption=prose", "=text", "a=text,"])
def test_a_word_that_names_no_view_is_refused(words: str) -> None:
    with pytest.raises(InvalidRequest, match="names no view"):
        parse_views(words)


def test_a_file_that_is_not_there_is_bad_input_before_any_service_is_asked(consilience: Command) -> None:
    ran = consilience("datasets", "add", "nowhere.jsonl", "--server", "http://127.0.0.1:9")
    assert (ran.status, "There is no file nowhere.jsonl" in ran.err) == (2, True)


def test_a_folder_is_bad_input_before_any_service_is_asked(consilience: Command, tmp_path: Path) -> None:
    ran = consilience("datasets", "add", tmp_path, "--server", "http://127.0.0.1:9")
    assert (ran.status, "Pack a folder as a zip or a tar." in ran.err) == (2, True)
