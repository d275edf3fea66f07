"""Files of the caches that a job will need, read and checked by a thread of its own while the job computes something else."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import BinaryIO, Literal, Self

from consilience.stores.graphs import Graphs

#: What is read before it is asked for; more is left to whoever asks.
AHEAD_BYTES = 256_000_000

Place = Literal["graphs", "facts", "matrices"]


class Ahead(AbstractContextManager["Ahead"]):
    """Reads what the last job of the same name read, in its order, and notes what this one reads.

    Parameters
    ----------
    graphs : Graphs
        The cache, with its facts and matrices.
    name : str
        What jobs that read the same have in common.
    concerns : callable
        Whether an address is one that the next job of the name will read too.
    """

    def __init__(self, graphs: Graphs, name: str, concerns: Callable[[str], bool]) -> None:
        self._stores: dict[Place, Graphs] = {"graphs": graphs, "facts": graphs.facts, "matrices": graphs.matrices}
        self._address, self._concerns = f"read ahead by {name}", concerns
        self._coming: dict[str, Future[bytes | None]] = {}
        self._used: list[tuple[Place, str]] = []
        self._wanted: list[list[str]] | None = None
        self._read_bytes = 0
        self._reader = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        known = self._stores["facts"].read(self._address, lambda file: file.read())
        self._wanted = None if known is None else json.loads(known)
        for place, address in self._wanted or ():
            self._coming[address] = self._reader.submit(self._read, place, address)
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        noted = [[place, address] for place, address in self._used]
        if noted != self._wanted:
            with self._stores["facts"].claim(self._address, lambda: None) as keep:
                keep(lambda file: file.write(json.dumps(noted).encode()))

    def take(self, place: Place, address: str) -> bytes | None:
        """What the file of an address holds, where it was read ahead; None where it was not, or is not there."""
        if self._concerns(address):
            self._used.append((place, address))
        coming = self._coming.pop(address, None)
        return None if coming is None else coming.result()

    def _read(self, place: Place, address: str) -> bytes | None:
        if self._read_bytes > AHEAD_BYTES:
            return None
        found = self._stores[place].read(address, _whole)
        self._read_bytes += len(found or b"")
        return found


def _whole(file: BinaryIO) -> bytes:
    return file.read()


def concerns_any(digests: Sequence[str]) -> Callable[[str], bool]:
    """Whether an address names one of these layers."""
    return lambda address: any(digest in address for digest in digests)
