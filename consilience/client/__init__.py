"""HTTP clients of the service: `Client`, and `AsyncClient` for asyncio.

Both names are loaded on first use, so that importing this package loads no HTTP library.
"""

#: True for type checkers, which know the name; importing it would load `typing`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from consilience.client.aio import AsyncClient
    from consilience.client.sync import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> object:
    if name == "Client":
        from consilience.client.sync import Client  # noqa: PLC0415 - loaded on first use

        return Client
    if name == "AsyncClient":
        from consilience.client.aio import AsyncClient  # noqa: PLC0415 - loaded on first use

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
