"""`consilience keys`, on a real database."""

import json
import os
from pathlib import Path

import pytest

from consilience.stores.database import Database
from consilience.stores.keys import KeyRecords
from tests.cli.conftest import Command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that does not exist yet; the environment names it."""
    for name in [name for name in os.environ if name.startswith("CONSILIENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CONSILIENCE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_new_key_is_printed_alone_and_once(consilience: Command, folder: Path) -> None:
    made = consilience("keys", "create", "--owner", "ana", "--expires", 30)

    token = made.out.strip()
    database = Database(f"sqlite:///{folder / 'consilience.db'}")
    key = KeyRecords(database).authenticate(token)
    database.close()
    assert made.status == 0
    assert (key.owner, key.scopes, key.expires_at and (key.expires_at - key.created_at).days) == (
        "ana",
        ("read", "write"),
        30,
    )
    assert f"{key.id} of ana: read, write, until " in made.err
    assert token not in made.err
    listed = consilience("keys", "list")
    assert key.id in listed.out
    assert token[-43:] not in listed.out + consilience("keys", "list", "--json").out


def test_json_contains_the_token_too(consilience: Command, folder: Path) -> None:
    document = json.loads(consilience("keys", "create", "--owner", "ci", "--scopes", "admin", "--json").out)

    assert (document["owner"], document["scopes"], document["expires_at"]) == ("ci", ["admin"], None)
    assert document["token"].startswith("csl_" + document["id"].removeprefix("key_"))


def test_a_key_is_revoked_by_its_id(consilience: Command, folder: Path) -> None:
    key_id = json.loads(consilience("keys", "create", "--owner", "ana", "--json").out)["id"]

    revoked = consilience("keys", "revoke", key_id)

    assert (revoked.status, revoked.err) == (0, f"{key_id} of ana is revoked.\n")
    assert json.loads(consilience("keys", "list", "--json").out)["revoked_at"]
    assert "revoked" in consilience("keys", "list").out


@pytest.mark.parametrize("words", [("list",), ("revoke", "key_0")])
def test_only_create_makes_a_data_folder(consilience: Command, folder: Path, words: tuple[str, ...]) -> None:
    ran = consilience("keys", *words)

    assert (ran.status, ran.out) == (2, "")
    assert "does not exist. Pass the data folder of the service with --data-dir." in " ".join(ran.err.split())
    assert not folder.exists()


def test_revoking_an_unknown_key_is_refused(consilience: Command, folder: Path) -> None:
    consilience("keys", "create", "--owner", "ana")

    ran = consilience("keys", "revoke", "key_0")

    assert (ran.status, ran.out) == (2, "")
    assert "There is no such key" in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "--owner", "a b"), "1 to 64 letters"),
        (("create", "--owner", "a", "--scopes", "all"), "allowed: read, write, admin"),
        (("create", "--owner", "a", "--expires", "0"), "greater than or equal to 1"),
        (("create",), "--owner"),
    ],
)
def test_an_invalid_request_is_reported(
    consilience: Command, folder: Path, words: tuple[str, ...], message: str
) -> None:
    ran = consilience("keys", *words)

    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err


def test_the_data_folder_is_readable_by_its_owner_only(consilience: Command, folder: Path) -> None:
    consilience("keys", "create", "--owner", "ana")

    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_database_url_takes_precedence_over_the_data_folder(
    consilience: Command, folder: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSILIENCE_DATABASE_URL", sqlite_url)
    consilience("keys", "create", "--owner", "ana")

    database = Database(sqlite_url)
    assert [key.owner for key in KeyRecords(database).all()] == ["ana"]
    database.close()
    assert not folder.exists()
