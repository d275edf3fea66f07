"""The synchronous client is generated from the asynchronous one, and both are light to import."""

import inspect
import subprocess
import sys
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from consilience.client.aio import AsyncClient, AsyncPendingJob
from consilience.client.sync import Client, PendingJob

ROOT = Path(__file__).parents[2]


def public(kind: type) -> dict[str, Any]:
    """Public members of a class, and its construction."""
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_") or name == "__init__"}


def test_the_generated_client_is_up_to_date() -> None:
    written = (ROOT / "consilience" / "client" / "sync.py").read_text(encoding="utf-8")
    render = run_path(str(ROOT / "scripts" / "generate_sync_client.py"))["render"]
    assert render() == written, "run: make client"


@pytest.mark.parametrize(("plain", "awaited"), [(Client, AsyncClient), (PendingJob, AsyncPendingJob)])
def test_both_clients_have_the_same_methods_and_parameters(plain: type, awaited: type) -> None:
    assert public(plain).keys() == public(awaited).keys() >= {"wait", "cancel"}
    for name, method in public(plain).items():
        twin = public(awaited)[name]
        if inspect.isfunction(method):
            ours, theirs = inspect.signature(method).parameters, inspect.signature(twin).parameters
            assert [(p.name, p.kind, p.default) for p in ours.values()] == [
                (p.name, p.kind, p.default) for p in theirs.values()
            ]
        assert (method.__doc__ or "") == (twin.__doc__ or "")


def test_every_public_method_is_asynchronous_in_one_client_only() -> None:
    methods = {name for name, method in public(Client).items() if inspect.isfunction(method)} - {"__init__"}
    assert all(inspect.iscoroutinefunction(getattr(AsyncClient, name)) for name in methods)
    assert not any(inspect.iscoroutinefunction(getattr(Client, name)) for name in methods)


@pytest.mark.parametrize(
    ("absent", "statement"),
    [
        ("numpy faiss", "import consilience.client.aio, consilience.client.sync"),
        ("numpy faiss", "from consilience.client import AsyncClient, Client"),
        ("httpx2 pydantic", "import consilience.client"),
    ],
)
def test_importing_the_client_loads_no_heavy_library(absent: str, statement: str) -> None:
    program = f"import sys; sys.modules.update(dict.fromkeys({absent.split()!r})); {statement}"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_offers_both_clients_and_nothing_else() -> None:
    import consilience.client as package

    assert (package.Client, package.AsyncClient) == (Client, AsyncClient)
    assert {"Client", "AsyncClient"} <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'Clients'"):
        _ = package.Clients
