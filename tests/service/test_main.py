"""Addresses that a service listens on."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.__main__ import check_exposure
from service.settings import ServiceSettings
from tests.service.api_keys import make_key, opened_keys
from tests.service.servers import environment_of

ANYWHERE = "0.0.0.0"  # noqa: S104 - what is refused here


def test_a_public_address_without_keys_is_refused_with_alternatives(tmp_path: Path) -> None:
    environment = environment_of(tmp_path, "unix:///nothing", host=ANYWHERE)
    command = [sys.executable, "-m", "service"]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)

    assert finished.returncode == 2
    assert "CONSILIENCE_HOST='0.0.0.0' is not a loopback address, and the service has no API keys" in finished.stderr
    for way_out in (
        "consilience keys create",
        "CONSILIENCE_REQUIRE_KEYS=true",
        "CONSILIENCE_ALLOW_UNAUTHENTICATED=true",
    ):
        assert way_out in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    "settings",
    [{"host": "127.0.0.1"}, {"require_keys": True}, {"allow_unauthenticated": True}],
    ids=lambda each: next(iter(each)),
)
def test_a_public_address_is_allowed_if_the_settings_say_so(tmp_path: Path, settings: dict[str, object]) -> None:
    check_exposure(ServiceSettings.model_validate({"host": ANYWHERE, "data_dir": tmp_path, **settings}))


def test_a_public_address_is_allowed_if_a_key_exists(tmp_path: Path) -> None:
    make_key(tmp_path, "ana")
    with opened_keys(tmp_path) as keys:
        keys.revoke(keys.all()[0].id)

    check_exposure(ServiceSettings(host=ANYWHERE, data_dir=tmp_path))
