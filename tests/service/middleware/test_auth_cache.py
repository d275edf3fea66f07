from datetime import UTC, datetime, timedelta

import pytest

from consilience.contract.keys import ApiKey, Scope
from service.deps import Principal
from service.middleware import auth
from service.middleware.auth import CACHE_SIZE, AuthenticationCache


def principal(expires_in_s: float = 60) -> Principal:
    now = datetime.now(UTC)
    expires_at = now + timedelta(seconds=expires_in_s)
    return Principal(
        ApiKey(id="key_0123456789abcdef", owner="ana", scopes=(Scope.ADMIN,), created_at=now, expires_at=expires_at)
    )


def test_a_cached_principal_is_found_by_its_exact_header() -> None:
    known, ana, nobody = AuthenticationCache(), principal(), Principal()
    known.add("Bearer x", ana)
    known.add(None, nobody)

    assert known.find("Bearer x") is ana
    assert known.find(None) is nobody
    assert known.find("Bearer y") is known.find("None") is known.find("") is None


def test_a_discarded_principal_is_not_found() -> None:
    known = AuthenticationCache()
    known.add("Bearer x", principal())
    known.discard("Bearer x")
    known.discard("Bearer never seen")
    assert known.find("Bearer x") is None


def test_an_expired_key_is_not_found() -> None:
    known = AuthenticationCache()
    known.add("Bearer x", principal(expires_in_s=-1))
    assert known.find("Bearer x") is None


def test_an_expired_entry_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    known = AuthenticationCache()
    known.add("Bearer x", principal())
    monkeypatch.setattr(auth, "CACHE_TTL_S", -1.0)
    assert known.find("Bearer x") is None


def test_only_the_newest_entries_are_kept() -> None:
    known = AuthenticationCache()
    for number in range(CACHE_SIZE + 1):
        known.add(str(number), principal())
    assert known.find("0") is None
    assert known.find(str(CACHE_SIZE)) is not None
