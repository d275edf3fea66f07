from datetime import UTC, datetime, timedelta

import pytest

from consilience.contract.keys import ApiKey, IssuedKey, Scope, parse_scopes
from consilience.errors import InvalidRequest

NOW = datetime.now(UTC)
KEY = {"id": "key_0123456789abcdef", "owner": "ana", "scopes": ["read"], "created_at": NOW}


def test_scopes_are_parsed_in_order_without_duplicates() -> None:
    assert parse_scopes("write, read,write") == (Scope.WRITE, Scope.READ)


@pytest.mark.parametrize("words", ["", "read,", "Read", "all"])
def test_an_unknown_scope_is_refused_with_the_allowed_ones(words: str) -> None:
    with pytest.raises(InvalidRequest, match="allowed: read, write, admin"):
        parse_scopes(words)


def test_admin_includes_all_scopes_and_others_only_themselves() -> None:
    key = ApiKey.model_validate(KEY)
    admin = key.model_copy(update={"scopes": (Scope.ADMIN,)})

    assert [key.allows(scope) for scope in Scope] == [True, False, False]
    assert all(admin.allows(scope) for scope in Scope)


def test_a_key_has_a_state() -> None:
    past, future = NOW - timedelta(seconds=1), NOW + timedelta(days=1)
    states = [({}, "active"), ({"expires_at": future}, "active"), ({"expires_at": past}, "expired")]
    for members, state in [*states, ({"expires_at": past, "revoked_at": past}, "revoked")]:
        assert ApiKey.model_validate({**KEY, **members}).state == state


def test_a_token_is_masked_unless_it_is_requested() -> None:
    key = IssuedKey.model_validate({**KEY, "token": "csl_secret"})

    assert "csl_secret" not in f"{key!r} {key} {key.model_dump()} {key.model_dump_json()}"
    assert key.token.get_secret_value() == "csl_secret"
