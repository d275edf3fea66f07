import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from consilience.errors import StartupError
from consilience.execution.addresses import Certificate, ClusterAddress
from consilience.models.rules import Endpoint, ModelRules, find_packaged_models
from workers.settings import WorkerSettings, count_cores, read_settings


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
    assert WorkerSettings(workers=1000).threads == 1


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


@pytest.mark.parametrize("word", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device_is_chosen_by_name(word: str) -> None:
    assert WorkerSettings(device=word).device == word
    assert WorkerSettings().device == "auto"


@pytest.mark.parametrize("word", ["", "gpu", "cuda:", "cuda:x", "cuda:0\n", "CUDA"])
def test_an_invalid_device_is_named(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_DEVICE", word)
    with pytest.raises(StartupError, match="CONSILIENCE_DEVICE="):
        read_settings()


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, Path]:
    """Three files that stand for a certificate."""
    files = {f"cluster_{name}_file": tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    for file in files.values():
        file.touch()
    return files


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786"])
def test_a_cluster_on_this_machine_needs_no_certificate(url: str) -> None:
    assert WorkerSettings(cluster_url=url).cluster == ClusterAddress(url)
    assert WorkerSettings().cluster is None


def test_a_remote_cluster_requires_a_certificate(certificate: dict[str, Path]) -> None:
    found = WorkerSettings.model_validate({"cluster_url": "tls://scheduler:8786", **certificate}).cluster
    assert found == ClusterAddress("tls://scheduler:8786", Certificate(*certificate.values()))


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("tcp://scheduler:8786", "is not a loopback address"),
        ("tcp://10.0.0.1:8786", "is not a loopback address"),
        ("tcp://:8786", "is not a loopback address"),
        ("tls://scheduler:8786", "set CONSILIENCE_CLUSTER_CERT_FILE, CONSILIENCE_CLUSTER_KEY_FILE too"),
        ("ucx://127.0.0.1:8786", "must be tls://host:port or tcp://"),
        ("127.0.0.1:8786", "must be tls://host:port or tcp://"),
        ("inproc://1", "must be tls://host:port or tcp://"),
    ],
)
def test_an_insecure_cluster_is_refused(
    monkeypatch: pytest.MonkeyPatch, certificate: dict[str, Path], url: str, complaint: str
) -> None:
    monkeypatch.setenv("CONSILIENCE_CLUSTER_URL", url)
    monkeypatch.setenv("CONSILIENCE_CLUSTER_CA_FILE", str(certificate["cluster_ca_file"]))
    with pytest.raises(StartupError) as caught:
        read_settings()
    assert complaint in str(caught.value)
    assert f"CONSILIENCE_CLUSTER_URL={url!r}" in str(caught.value)


def test_a_certificate_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_CLUSTER_CA_FILE", "/nowhere/ca.pem")
    with pytest.raises(StartupError, match=r"CONSILIENCE_CLUSTER_CA_FILE='/nowhere/ca.pem'"):
        read_settings()


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIENCE_REDIS_URL", "redis://:secret@host/0")
    monkeypatch.setenv("CONSILIENCE_DATABASE_URL", "postgresql://user:secret@host/db")
    settings = read_settings()
    assert "secret" not in repr(settings)
    assert settings.database == "postgresql://user:secret@host/db"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        WorkerSettings().beat_s = 2.0  # type: ignore[misc]  # that it is refused is what is tested


def test_models_are_what_this_machine_has_and_nothing_is_fetched() -> None:
    assert WorkerSettings().rules == ModelRules(named=find_packaged_models())
    assert WorkerSettings().rules.allowed == ("*",)


def test_the_operator_chooses_the_available_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "many").mkdir()
    (tmp_path / "one model").mkdir()
    monkeypatch.setenv("CONSILIENCE_MODELS", "hf:acme/*, baseline:*")
    monkeypatch.setenv("CONSILIENCE_MODEL_FOLDERS", f"{tmp_path / 'many'},acme/tiny={tmp_path / 'one model'}")
    monkeypatch.setenv("CONSILIENCE_MODEL_DOWNLOADS", "true")
    endpoint = {"url": "http://10.0.0.5:8080/v1", "model": "BAAI/bge-m3", "api_key": "sk-secret", "batch": 32}
    monkeypatch.setenv("CONSILIENCE_MODEL_ENDPOINTS", json.dumps({"tei": endpoint}))
    settings = read_settings()
    assert settings.rules == ModelRules(
        ("hf:acme/*", "baseline:*"),
        (tmp_path / "many",),
        {**find_packaged_models(), "acme/tiny": tmp_path / "one model"},
        True,
        {"tei": Endpoint("http://10.0.0.5:8080/v1", "BAAI/bge-m3", "sk-secret", 32)},
    )
    assert "sk-secret" not in f"{settings!r} {settings.rules!r}"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MODELS", "acme/tiny", "matches no model"),
        ("MODELS", "hf:", "matches no model"),
        ("MODEL_FOLDERS", "models", "absolute path"),
        ("MODEL_FOLDERS", "/nowhere/models", "is not the absolute path of an existing folder"),
        ("MODEL_FOLDERS", "../x=/tmp", "is not the name of a model"),
        ("MODEL_FOLDERS", "acme/tiny@v1=/tmp", "has a revision"),
        ("MODEL_DOWNLOADS", "true", "CONSILIENCE_MODELS"),
        ("MODEL_ENDPOINTS", "{", "the value is not JSON"),
        ("MODEL_ENDPOINTS", "[]", "dictionary"),
        ("MODEL_ENDPOINTS", '{"a b": {"url": "http://h/v1", "model": "m"}}', "names of endpoints must consist of"),
        ("MODEL_ENDPOINTS", '{"a": {"url": "http://u:sk-secret@h/v1", "model": "m"}}', "api_key"),
        ("MODEL_ENDPOINTS", '{"a": {"url": "http://h/v1", "model": "m", "api_keys": "sk-secret"}}', "not permitted"),
    ],
)
def test_a_model_setting_that_is_wrong_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"CONSILIENCE_{name}", value)
    with pytest.raises(StartupError, match=said) as caught:
        read_settings()
    assert f"CONSILIENCE_{name}" in str(caught.value)
    assert "sk-secret" not in str(caught.value)
