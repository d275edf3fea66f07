"""The two clients are one client."""

import inspect
from typing import Any

import pytest

from consilience.client.aio import AsyncClient
from consilience.client.pending import AsyncPendingJob, PendingJob
from consilience.client.sync import Client


def public(kind: type) -> dict[str, Any]:
    """Its own members and those of its bases."""
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_") or name == "__init__"}


@pytest.mark.parametrize(("plain", "awaited"), [(Client, AsyncClient), (PendingJob, AsyncPendingJob)])
def test_both_have_the_same_methods_with_the_same_parameters(plain: type, awaited: type) -> None:
    assert public(plain).keys() == public(awaited).keys() >= {"wait", "cancel"}
    for name, method in public(plain).items():
        twin = public(awaited)[name]
        if inspect.isfunction(method):
            ours, theirs = inspect.signature(method).parameters, inspect.signature(twin).parameters
            assert [(p.name, p.kind, p.default) for p in ours.values()] == [
                (p.name, p.kind, p.default) for p in theirs.values()
            ]
        assert (method.__doc__ or "") == (twin.__doc__ or "")


def test_the_client_needs_neither_numpy_nor_faiss() -> None:
    import subprocess
    import sys

    program = "import sys; sys.modules['numpy'] = sys.modules['faiss'] = None; import consilience.client.aio"
    subprocess.run([sys.executable, "-c", program], check=True)
