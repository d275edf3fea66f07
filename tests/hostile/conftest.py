"""A service with small limits, so that exceeding them is cheap."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.hostile.cost_report import CostReport
from tests.service.servers import Server, running_service

COST_REPORT = pytest.StashKey[CostReport]()

UPLOAD_LIMIT_BYTES = 3_000_000
INLINE_LIMIT_BYTES = 1_000_000
COLUMN_LIMIT_BYTES = 600_000


@pytest.fixture(scope="session")
def server(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = {
        "upload_limit_bytes": UPLOAD_LIMIT_BYTES,
        "inline_limit_bytes": INLINE_LIMIT_BYTES,
        "column_limit_bytes": COLUMN_LIMIT_BYTES,
        "job_flops_limit": 1e7,
        "upload_idle_limit_s": 0.3,
    }
    with running_service(tmp_path_factory.mktemp("hostile"), f"{redis_server}?db=5", **limits) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def cost_report(pytestconfig: pytest.Config) -> CostReport:
    """Costs of all attacks of the run."""
    return pytestconfig.stash.setdefault(COST_REPORT, CostReport())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the most expensive attacks if the corpus ran in this process."""
    if cost_report := config.stash.get(COST_REPORT, None):
        cost_report.write(terminalreporter)
