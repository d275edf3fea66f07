import pytest

from consilience.errors import StartupError
from consilience.settings import is_loopback
from service.settings import ServiceSettings, read_settings


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_PORT", "9000")
    monkeypatch.setenv("CONSILIENCE_UPLOAD_LIMIT_BYTES", "1000")

    settings = read_settings()

    assert (settings.port, settings.upload_limit_bytes) == (9000, 1000)


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = ServiceSettings()

    assert (settings.host, settings.upload_limit_bytes, settings.queue_limit) == ("127.0.0.1", 8 * 2**30, 10_000)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PORT", "70000"), ("PORT", "http"), ("UPLOAD_LIMIT_BYTES", "8GB"), ("WAIT_LIMIT_S", "nan"), ("QUEUE_LIMIT", "0")],
)
def test_an_invalid_value_is_reported_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"CONSILIENCE_{variable}", value)

    with pytest.raises(StartupError, match=f"CONSILIENCE_{variable}='{value}'"):
        read_settings()


def test_all_invalid_values_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_PORT", "x")
    monkeypatch.setenv("CONSILIENCE_LOG_LEVEL", "loud")

    with pytest.raises(StartupError, match=r"CONSILIENCE_LOG_LEVEL.*CONSILIENCE_PORT"):
        read_settings()


def test_secrets_are_masked() -> None:
    settings = ServiceSettings(redis_url="redis://:hunter2@h/0", database_url="postgresql://u:hunter2@h/d")

    assert "hunter2" not in f"{settings!r}{settings}{settings.model_dump()}"
    assert settings.database == "postgresql://u:hunter2@h/d"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ServiceSettings().port = 1  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "example.org"])  # noqa: S104 - never bound to
def test_other_addresses_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_addresses_are_recognised(host: str) -> None:
    assert is_loopback(host)
