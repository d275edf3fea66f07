"""The compose file of the cluster: code travels there, so who gets in, and what the processes are told."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker

from workers.settings import WorkerSettings

DOCKER = Path(__file__).parents[2] / "docker"
MEMBERS = ("scheduler", "parts")
CERTIFICATES = "/certs:/certificates:ro"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with its one required variable set, and every other at its default."""
    text = re.sub(r"\$\{CONSILIENCE_CERTIFICATES:\?[^}]*\}", "/certs", (DOCKER / "cluster.yaml").read_text())
    found: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    return found


def read_command(part: dict[str, Any]) -> list[str]:
    """The words of the dask command."""
    shell, flag, line = part["command"]
    assert (shell, flag) == ("sh", "-c")
    words = shlex.split(line)
    return words[words.index("exec") + 1 :]


def test_nothing_is_published_and_nothing_reaches_out(compose: dict[str, Any]) -> None:
    assert compose["services"].keys() == {"worker", *MEMBERS}
    for name in MEMBERS:
        part = compose["services"][name]
        assert part["networks"] == ["back"]
        assert "ports" not in part


def test_its_containers_have_no_rights_and_a_read_only_image(compose: dict[str, Any]) -> None:
    for name in MEMBERS:
        part = compose["services"][name]
        assert (part["image"], part["read_only"], part["cap_drop"]) == ("consilience-worker", True, ["ALL"])
        assert part["security_opt"] == ["no-new-privileges:true"]


def test_all_three_show_certificates_and_parts_read_the_blobs_where_the_worker_has_them(
    compose: dict[str, Any],
) -> None:
    volumes = {name: part["volumes"] for name, part in compose["services"].items()}
    assert volumes == {
        "worker": [CERTIFICATES],
        "scheduler": [CERTIFICATES],
        "parts": ["blobs:/data:ro", CERTIFICATES],
    }


@pytest.mark.parametrize(("name", "command"), [("scheduler", dask_scheduler.main), ("parts", dask_worker.main)])
def test_every_flag_is_one_that_dask_has(compose: dict[str, Any], name: str, command: Any) -> None:
    program, _, *words = read_command(compose["services"][name])
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    flags = {word for word in words if word.startswith("--")}
    assert program == "dask"
    assert flags <= known
    assert {"--tls-ca-file", "--tls-cert", "--tls-key"} <= flags
    assert "tls" in words or "tls://scheduler:8786" in words


def test_one_thread_does_one_part(compose: dict[str, Any]) -> None:
    words = read_command(compose["services"]["parts"])
    assert words[words.index("--nthreads") + 1] == "1"


def test_the_worker_is_told_where_the_scheduler_is(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment: dict[str, str] = compose["services"]["worker"]["environment"]
    for name, value in environment.items():
        if value.startswith("/certificates/"):
            (tmp_path / Path(value).name).touch()
            monkeypatch.setenv(name, str(tmp_path / Path(value).name))
        else:
            monkeypatch.setenv(name, value)
    address = WorkerSettings().cluster
    assert address
    assert address.url == "tls://scheduler:8786"
    assert address.certificate
    assert address.certificate.key_file == tmp_path / "key.pem"
