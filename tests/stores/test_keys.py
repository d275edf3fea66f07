import hmac
import re

import pytest
import sqlalchemy as sa

from consilience.contract.keys import TOKEN, ApiKey, Scope
from consilience.errors import InvalidRequest, NotFound, Unauthenticated
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.keys import KeyRecords

BOTH = (Scope.READ, Scope.WRITE)


@pytest.fixture
def keys(database: Database) -> KeyRecords:
    return KeyRecords(database)


def token_of(keys: KeyRecords, **options: float) -> str:
    return keys.create("ana", BOTH, **options).token.get_secret_value()


def test_a_token_opens_its_own_key(keys: KeyRecords) -> None:
    issued, _ = keys.create("ana", BOTH, 3), keys.create("bob", (Scope.ADMIN,))

    found = keys.authenticate(issued.token.get_secret_value())

    assert found == ApiKey.model_validate(issued.model_dump(exclude={"token"}))
    assert (found.owner, found.scopes, found.state) == ("ana", BOTH, "active")
    assert [key.owner for key in keys.all()] == ["ana", "bob"]


def test_tokens_are_random_and_of_one_form(keys: KeyRecords) -> None:
    tokens = {token_of(keys) for _ in range(20)}

    assert len(tokens) == 20
    assert all(TOKEN.fullmatch(token) for token in tokens)


def test_the_database_holds_no_part_of_a_secret(keys: KeyRecords, database: Database) -> None:
    secret = token_of(keys).split("_", 2)[2]

    with database.read() as connection:
        [row] = connection.execute(sa.select(tables.api_keys)).all()

    assert secret[:8] not in str(row)
    assert re.fullmatch("[0-9a-f]{64}", row.digest)


def test_no_other_token_opens_it(keys: KeyRecords) -> None:
    token = token_of(keys)
    other = token_of(keys)
    public = token[: len("csl_0123456789abcdef_")]

    for wrong in (
        "",
        "csl_",
        token[:-1],
        token + "A",
        token.upper(),
        public + other[len(public) :],
        " " + token,
        "é" * 64,
    ):
        with pytest.raises(Unauthenticated) as caught:
            keys.authenticate(wrong)
        assert caught.value.value is None
        assert token[len(public) :] not in str(caught.value)


def test_a_secret_is_compared_in_constant_time_whether_or_not_its_key_exists(
    keys: KeyRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = token_of(keys)
    compared: list[int] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(a)) or compare(a, b))

    keys.authenticate(token)
    for wrong in (token[:-1] + ("A" if token[-1] != "A" else "B"), "csl_0123456789abcdef_" + token[-43:], "nonsense"):
        with pytest.raises(Unauthenticated):
            keys.authenticate(wrong)

    assert compared == [64] * 4


def test_a_revoked_key_holds_no_longer_and_stays_revoked(keys: KeyRecords) -> None:
    token = token_of(keys)
    key_id = keys.all()[0].id

    first, again = keys.revoke(key_id), keys.revoke(key_id)

    assert first == again
    assert first.revoked_at is not None
    with pytest.raises(Unauthenticated, match=f"{key_id} is revoked"):
        keys.authenticate(token)


def test_an_expired_key_holds_no_longer(keys: KeyRecords) -> None:
    with pytest.raises(Unauthenticated, match="is expired"):
        keys.authenticate(token_of(keys, expires_days=-1))


def test_a_service_that_had_a_key_remembers_it(keys: KeyRecords) -> None:
    assert not keys.exist()
    keys.revoke(keys.create("ana", BOTH).id)
    assert keys.exist()


def test_an_unknown_key_cannot_be_revoked(keys: KeyRecords) -> None:
    with pytest.raises(NotFound):
        keys.revoke("key_0123456789abcdef")


@pytest.mark.parametrize("owner", ["", "a b", "-x", "x" * 65, "a\n", "<b>"])
def test_a_name_that_cannot_be_an_owners_is_refused(keys: KeyRecords, owner: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 64 letters"):
        keys.create(owner, BOTH)
    assert not keys.exist()
