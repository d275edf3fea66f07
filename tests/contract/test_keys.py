from datetime import UTC, datetime, timedelta

import pytest

from consilience.contract.keys import ApiKey, IssuedKey, Scope, parse_scopes
from consilience.errors import InvalidRequest

NOW = datetime.now(UTC)
KEY = {"id": "key_0123456789abcdef", "owner": "ana", "scopes": ["read"], "created_at": NOW}


def test_scopes_are_read_in_their_order_and_once() -> None:
    assert parse_scopes("write, read,write") == (Scope.WRITE, Scope.READ)


@pytest.mark.parametrize("words", ["", "read,", "Read", "all"])
def test_a_word_that_is_no_scope_is_named_with_those_that_are(words: str) -> None:
    with pytest.raises(InvalidRequest, match="allowed: read, write, admin"):
        parse_scopes(words)


def test_admin_may_do_everything_and_other_scopes_what_they_say() -> None:
    key = ApiKey.model_validate(KEY)
    admin = key.model_copy(update={"scopes": (Scope.ADMIN,)})

    assert [key.allows(scope) for scope in Scope] == [True, False, False]
    assert all(admin.allows(scope) for scope in Scope)


def test_a_key_says_in_one_word_whether_it_holds() -> None:
    past, future = NOW - timedelta(seconds=1), NOW + timedelta(days=1)
    states = [({}, "active"), ({"expires_at": future}, "active"), ({"expires_at": past}, "expired")]
    for members, state in [*states, ({"expires_at": past, "revoked_at": past}, "revoked")]:
        assert ApiKey.model_validate({**KEY, **members}).state == state


def test_a_token_is_shown_only_to_who_asks_for_it() -> None:
    key = IssuedKey.model_validate({**KEY, "token": "csl_secret"})

    assert "csl_secret" not in f"{key!r} {key} {key.model_dump()} {key.model_dump_json()}"
    assert key.token.get_secret_value() == "csl_secret"
