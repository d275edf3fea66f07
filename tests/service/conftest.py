"""Services that tests share, with and without a worker."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.service.servers import Server, running_service, running_worker


@pytest.fixture(scope="session")
def server(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service without workers: its jobs stay queued."""
    with running_service(tmp_path_factory.mktemp("service"), f"{redis_server}?db=3") as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def busy_server(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a worker: its jobs finish."""
    with running_service(tmp_path_factory.mktemp("busy"), f"{redis_server}?db=4") as server, running_worker(server):
        yield server


@pytest.fixture(scope="session")
def busy_client(busy_server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=busy_server.url, timeout=60) as client:
        yield client
