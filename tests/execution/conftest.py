"""One Dask cluster for all tests of this room."""

from collections.abc import Iterator

import pytest

from tests.execution.clusters import Cluster, wait_for


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start_worker()
    cluster.start_worker()
    wait_for(lambda: cluster.log().count("Register worker") == 2, timeout_s=60)
    yield cluster
    cluster.close()
