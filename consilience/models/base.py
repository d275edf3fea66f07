"""Interface of embedding models, and helpers that every loader uses."""

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
    """Raise MissingExtra, with the command to run, unless the modules are installed."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtra(
            f"{what} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed.",
            value=missing[0],
            hint=f"Run: pip install 'consilience[{extra}]'",
        )


@contextmanager
def report_import_errors(what: str) -> Iterator[None]:
    """Turn the ImportError of an installed but broken library into MissingExtra, with the reason."""
    try:
        yield
    except ImportError as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise MissingExtra(
            f"{what} needs a library that cannot be imported: {reason}.",
            value=error.name or what,
            hint="The library's installation is damaged or incomplete: ask the operator to install it again.",
        ) from error


def library_versions(*distributions: str) -> dict[str, str]:
    """Return the versions of installed distributions."""
    return {name: version(name) for name in distributions}


#: A text, or an image as the bytes of its PNG, JPEG or WebP file.
ModelInput = str | bytes
EmbeddingRows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """Rows of some items.

    Attributes
    ----------
    rows : a float32 matrix (items, dim) for each requested layer, in their order
    truncated : number of items that were longer than the model's limit
    """

    rows: tuple[EmbeddingRows, ...]
    truncated: int = 0


class EmbeddingModel(Protocol):
    """A loaded model that turns items into rows. Not thread-safe."""

    @property
    def kinds(self) -> frozenset[ViewKind]:
        """Kinds of views that the model can embed."""

    @property
    def layers(self) -> tuple[tuple[str, int], ...]:
        """Name and dim of each layer, from the first to the last."""

    @property
    def record(self) -> ModelRecord:
        """Description of the model for the record of the set."""

    def encode(self, items: Sequence[ModelInput], layers: Sequence[str]) -> Encoded:
        """Return the rows of the items, in their order. The model makes batches of bounded memory, longest items first.

        Raises
        ------
        UnusableItem
            An item cannot be embedded.
        EndpointFailed
            The embedding server failed.
        """


@runtime_checkable
class FittableModel(Protocol):
    """A model that must be fitted to all items of a view before it can embed them; its layers are known afterwards."""

    def fit(self, items: Iterable[ModelInput]) -> None:
        """Fit the model to the items. Raises InvalidRequest if they have no content to learn from."""


class UnusableItem(BadItem):
    """An item that a model cannot embed.

    Parameters
    ----------
    index : int
        Index of the item among the items of the call.
    """

    def __init__(self, detail: str, *, index: int, **members: Any) -> None:
        super().__init__(detail, **members)
        self.index = index


def find_layer_indices(layers: Sequence[tuple[str, int]], names: Sequence[str]) -> list[int]:
    """Return the indices of the named layers. Raises UnknownLayer for the first name that is not a layer."""
    indices = {name: index for index, (name, _) in enumerate(layers)}
    for name in names:
        if name not in indices:
            raise UnknownLayer(
                f"The model has no layer {name!a}.",
                value=name,
                limit=list(indices),
                hint=f"Its layers are {', '.join(indices)}.",
            )
    return [indices[name] for name in names]


def find_non_finite_rows(rows: EmbeddingRows) -> list[int]:
    """Return the indices of rows with NaN or infinity."""
    return [int(row) for row in np.flatnonzero(~np.isfinite(rows).all(axis=1))]
