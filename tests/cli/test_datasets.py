"""`consilience datasets`."""

from pathlib import Path

import pytest

from consilience.cli.datasets import parse_views
from consilience.errors import InvalidRequest
from tests.cli.conftest import Command


def test_views_are_parsed_as_names_and_kinds() -> None:
    assert parse_views("caption=text,photo=image") == {"caption": "text", "photo": "image"}
    assert parse_views(None) is None


@pytest.mark.parametrize("words", ["", "caption", "caption=prose", "=text", "a=text,"])
def test_a_malformed_view_is_rejected(words: str) -> None:
    with pytest.raises(InvalidRequest, match="--views needs NAME=KIND, for example caption=text; got"):
        parse_views(words)


def test_a_missing_file_is_rejected_before_the_service_is_called(consilience: Command) -> None:
    ran = consilience("datasets", "add", "nowhere.jsonl", "--server", "http://127.0.0.1:9")
    assert (ran.status, "The file nowhere.jsonl does not exist." in ran.err) == (2, True)


def test_a_folder_is_rejected_before_the_service_is_called(consilience: Command, tmp_path: Path) -> None:
    ran = consilience("datasets", "add", tmp_path, "--server", "http://127.0.0.1:9")
    assert (ran.status, "Pack a folder as a zip or a tar file." in ran.err) == (2, True)
