"""Sources that can be uploaded, and their names."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from consilience.client.bodies import MEDIA_TYPES, body_of, name_of, stored_id
from consilience.contract.base import Name
from consilience.formats import files
from consilience.formats.items import files as items
from tests.client.documents import SET_ID


@pytest.mark.parametrize(
    "path", ["a.npy", "über/größe.npz", "-x.npy", ".npy", "ф.npy", "a" * 300 + ".npy", "a b@2.npy"]
)
def test_any_file_name_becomes_a_name_that_the_contract_allows(path: str) -> None:
    TypeAdapter(Name).validate_python(name_of(path))


def test_an_id_is_distinguished_from_a_path() -> None:
    assert stored_id(SET_ID) == SET_ID
    assert stored_id(SET_ID + ".npy") is None
    assert stored_id(Path(SET_ID)) is None


def test_the_clients_media_types_are_those_of_the_formats() -> None:
    ndjson = {"application/x-ndjson"}  # an alias
    assert set(MEDIA_TYPES.values()) == (files.MEDIA_TYPES.keys() | items.MEDIA_TYPES.keys()) - ndjson


def test_a_missing_file_is_an_error_before_any_request(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        body_of(tmp_path / "missing.npy")
