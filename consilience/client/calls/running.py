"""What every call asks of its client: that it runs an operation."""

from abc import ABC, abstractmethod

from consilience.client.exchange import Operation, Result


class Running(ABC):
    """Runs operations."""

    @abstractmethod
    def _run(self, operation: Operation[Result]) -> Result:
        """What the operation returns, once every request of it has its response."""


class AsyncRunning(ABC):
    """The same, awaited."""

    @abstractmethod
    async def _run(self, operation: Operation[Result]) -> Result:
        """What the operation returns, once every request of it has its response."""
