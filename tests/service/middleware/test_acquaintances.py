from datetime import UTC, datetime, timedelta

import pytest

from consilience.contract.keys import ApiKey, Scope
from service.deps import Caller
from service.middleware import auth
from service.middleware.auth import KEPT, Acquaintances


def caller(expires_in_s: float = 60) -> Caller:
    now = datetime.now(UTC)
    expires_at = now + timedelta(seconds=expires_in_s)
    return Caller(
        ApiKey(id="key_0123456789abcdef", owner="ana", scopes=(Scope.ADMIN,), created_at=now, expires_at=expires_at)
    )


def test_who_was_noted_is_recalled_by_just_what_was_shown() -> None:
    known, ana, nobody = Acquaintances(), caller(), Caller()
    known.note("Bearer x", ana)
    known.note(None, nobody)

    assert known.recall("Bearer x") is ana
    assert known.recall(None) is nobody
    assert known.recall("Bearer y") is known.recall("None") is known.recall("") is None


def test_who_was_refused_since_is_not_recalled() -> None:
    known = Acquaintances()
    known.note("Bearer x", caller())
    known.forget("Bearer x")
    known.forget("Bearer never seen")
    assert known.recall("Bearer x") is None


def test_an_expired_key_is_not_recalled() -> None:
    known = Acquaintances()
    known.note("Bearer x", caller(expires_in_s=-1))
    assert known.recall("Bearer x") is None


def test_nobody_is_recalled_after_long(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Acquaintances()
    known.note("Bearer x", caller())
    monkeypatch.setattr(auth, "REMEMBERED_S", -1.0)
    assert known.recall("Bearer x") is None


def test_only_the_newest_are_kept() -> None:
    known = Acquaintances()
    for number in range(KEPT + 1):
        known.note(str(number), caller())
    assert known.recall("0") is None
    assert known.recall(str(KEPT)) is not None
