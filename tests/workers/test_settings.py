import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from consilience.errors import StartupError
from workers.settings import Settings, count_cores, read_settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("CONSILIENCE_")]:
        monkeypatch.delenv(variable)


def test_the_defaults_are_one_worker_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read_settings()
    assert settings.database == f"sqlite:///{tmp_path / 'consilience-data' / 'consilience.db'}"
    assert settings.threads == count_cores()
    assert (settings.beat_s, settings.lease_s, settings.max_crashes) == (1.0, 6.0, 3)


def test_workers_share_the_cores() -> None:
    assert Settings(workers=1000).threads == 1


@pytest.mark.parametrize(
    ("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("10000000 100000", None)]
)
def test_a_containers_quota_counts(tmp_path: Path, quota: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert count_cores(tmp_path / "cpu.max") == (cores or len(os.sched_getaffinity(0)))
    assert count_cores(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_an_error_names_the_variable_and_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_BEAT_S", "-1")
    monkeypatch.setenv("CONSILIENCE_WORKERS", "many")
    with pytest.raises(StartupError) as caught:
        read_settings()
    assert "CONSILIENCE_BEAT_S='-1': Input should be greater than 0" in str(caught.value)
    assert "CONSILIENCE_WORKERS='many'" in str(caught.value)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_REDIS_URL", "redis://:secret@host/0")
    monkeypatch.setenv("CONSILIENCE_DATABASE_URL", "postgresql://user:secret@host/db")
    settings = read_settings()
    assert "secret" not in repr(settings)
    assert settings.database == "postgresql://user:secret@host/db"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().beat_s = 2.0  # type: ignore[misc]  # that it is refused is what is tested
