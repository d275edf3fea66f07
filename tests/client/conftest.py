"""Fixture that runs a test with both clients."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from consilience.client.aio import AsyncClient
from consilience.client.sync import Client

Call = Callable[..., Any]


def call_sync(url: str, action: Callable[[Client], Any], **options: Any) -> Any:
    with Client(url, **options) as client:
        return action(client)


def call_async(url: str, action: Callable[[AsyncClient], Any], **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncClient(url, **options) as client:
            return await action(client)

    return asyncio.run(main())


@pytest.fixture(params=[call_sync, call_async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """`call(url, lambda client: client.info())` with each client."""
    return request.param
