"""Embedding sets into the store: uploaded ones, and what jobs make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consilience.contract.embeddings import EmbeddingSet
from consilience.formats.matrices import Rows
from consilience.stores.blobs import Blobs, set_digest
from consilience.stores.embeddings import EmbeddingRecords, Making
from consilience.stores.folder_lock import an_upload


@dataclass(frozen=True)
class SetShelf:
    """Where one caller's sets are kept."""

    records: EmbeddingRecords
    blobs: Blobs
    root: Path

    def keep(
        self,
        rows: Rows,
        name: str,
        metadata: Mapping[str, Any],
        *,
        ids: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        key: str | None = None,
        making: Making | None = None,
    ) -> tuple[EmbeddingSet, bool]:
        """Keep layers and columns and record the set: whole, or not at all; False where it was there already.

        What a refused record leaves behind, the collector finds.

        Raises
        ------
        QuotaExceeded
            The owner would keep too much; found before anything is written.
        KeyReused, StorageFull, Unavailable, or what reading the rows raises.
        """
        size = sum(layer.bytes for layer in rows.layers)
        with an_upload(self.root):
            self.records.check_quota(size)
            layers = self.blobs.put(rows)
            columns = [None if each is None else self.blobs.put_column(each) for each in (ids, groups)]
            return self.records.add(
                name,
                rows.layers[0].n,
                layers,
                set_digest(layers, *columns),
                metadata,
                size,
                ids=columns[0],
                groups=columns[1],
                idempotency_key=key,
                making=making,
            )
