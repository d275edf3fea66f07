"""What every loader gives: a model that turns items into rows, a layer at a time or all at once."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from consilience.contract.datasets import ViewKind
from consilience.contract.records import ModelRecord
from consilience.errors import BadItem, MissingExtra, UnknownLayer


def require(extra: str, what: str, *modules: str) -> None:
    """Make sure that modules can be imported; MissingExtra says what to install."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtra(
            f"{what} needs {' and '.join(missing)}, not installed here.",
            value=missing[0],
            hint=f"Run: pip install 'consilience[{extra}]'",
        )


@contextmanager
def report_import_errors(what: str) -> Iterator[None]:
    """A library that is there and cannot be imported is as good as missing: MissingExtra says which, and why."""
    try:
        yield
    except ImportError as error:
        said = str(error).strip().partition("\n")[0].rstrip(".")
        raise MissingExtra(
            f"{what} needs a library that cannot be loaded here: {said}.",
            value=error.name or what,
            hint="Its installation is damaged or incomplete: the operator has to install it again.",
        ) from error


def library_versions(*distributions: str) -> dict[str, str]:
    """The versions of installed distributions."""
    return {name: version(name) for name in distributions}


#: A text, or an image as the bytes of its PNG, JPEG or WebP file.
Item = str | bytes
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """The rows of some items.

    Attributes
    ----------
    rows : a matrix (items, dim), float32, for each layer that was asked for, in that order
    truncated : how many of the items were longer than the model reads
    """

    rows: tuple[Rows, ...]
    truncated: int = 0


class EmbeddingModel(Protocol):
    """A model in memory. Not thread-safe."""

    @property
    def kinds(self) -> frozenset[ViewKind]:
        """Of the views that it can embed."""

    @property
    def layers(self) -> tuple[tuple[str, int], ...]:
        """Name and dim of each layer, from the first to the last."""

    @property
    def record(self) -> ModelRecord:
        """What it is, for the record of the set."""

    def encode(self, items: Sequence[Item], layers: Sequence[str]) -> Encoded:
        """The rows of the items, in their order. Batches are made here, longest items first, of bounded memory.

        Raises
        ------
        UnusableItem
            An item from which no row can be made.
        EndpointFailed
            The server that computes does not.
        """


@runtime_checkable
class FittableModel(Protocol):
    """A model that must see all items of a view before it can embed them; its layers are known afterwards."""

    def fit(self, items: Iterable[Item]) -> None:
        """Learn from the items; InvalidRequest where there is nothing to learn from."""


class UnusableItem(BadItem):
    """An item from which no row can be made.

    Parameters
    ----------
    index : int
        Its place among the items of the call.
    """

    def __init__(self, detail: str, *, index: int, **members: Any) -> None:
        super().__init__(detail, **members)
        self.index = index


def find_layer_indices(known: Sequence[tuple[str, int]], asked: Sequence[str]) -> list[int]:
    """Where the layers stand among those that are known; UnknownLayer names the first that does not."""
    places = {name: place for place, (name, _) in enumerate(known)}
    for name in asked:
        if name not in places:
            raise UnknownLayer(
                f"The model has no layer {name!a}.", value=name, limit=list(places), hint=f"It has {', '.join(places)}."
            )
    return [places[name] for name in asked]


def find_non_finite_rows(rows: Rows) -> list[int]:
    """The rows in which a number is NaN or infinite."""
    return [int(row) for row in np.flatnonzero(~np.isfinite(rows).all(axis=1))]
