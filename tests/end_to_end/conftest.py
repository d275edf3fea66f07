"""One `consilience serve` for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consilience.client.sync import Client
from tests.cli.conftest import Command, consilience
from tests.serving import Serve, serve

__all__ = ["consilience"]
DATA = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture(scope="session")
def service() -> Iterator[Serve]:
    with serve(env={"CONSILIENCE_UPLOAD_LIMIT_BYTES": str(8 * 2**20)}) as running:
        yield running


@pytest.fixture(scope="session")
def client(service: Serve) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


@pytest.fixture(scope="session")
def docs() -> Path:
    return DATA / "dev_docs.npy"


@pytest.fixture(scope="session")
def code() -> Path:
    return DATA / "dev_code.npy"


@pytest.fixture
def on_service(consilience: Command, service: Serve, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command with --server set to the running service."""

    def run(*words: object) -> object:
        return consilience(*words, "--server", service.url)

    return run
