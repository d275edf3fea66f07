"""Extraction: embed the items of a dataset with a model, block by block, and resume after interruptions."""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consilience.contract.base import LayerChoice
from consilience.contract.datasets import ViewKind
from consilience.contract.extraction import Extraction
from consilience.contract.models import parse_model
from consilience.contract.pointers import default_pointer
from consilience.contract.records import SetRecord
from consilience.datasets.builtin import open_dataset
from consilience.datasets.views import OpenDataset, View
from consilience.errors import BadItem, InvalidRequest, NonFiniteValues, UnreadableFile
from consilience.formats.writing import atomic_write, write_safetensors
from consilience.metrics.comparison import Report
from consilience.models.base import (
    EmbeddingModel,
    EmbeddingRows,
    FittableModel,
    ModelInput,
    UnusableItem,
    find_layer_indices,
    find_non_finite_rows,
)
from consilience.models.registry import fingerprint, open_model
from consilience.models.rules import ModelRules, find_packaged_models
from consilience.numerics.knn.devices import find_gpu
from consilience.stores.checkpoints import Checkpoint, CheckpointClaim, CheckpointStore

#: Number of items per block. At most one block is lost if a run is interrupted.
BLOCK_ITEMS: dict[ViewKind, int] = {"text": 256, "code": 256, "image": 32}
#: Maximum size of the rows of a block, of all layers, in bytes.
BLOCK_BYTES = 2**26
#: Increased whenever the same request would give other rows.
EXTRACTION_VERSION = 1
STAGE = "embedding"


def identify(request: Extraction, dataset_digest: str, rules: ModelRules) -> str:
    """Return the SHA-256 of everything that determines the content of the set: model, items and options.

    Raises
    ------
    InputError, Unavailable
        Raised as by `consilience.models.registry.open_model`. The model is located, but not loaded.
    """
    options = request.model_dump(mode="json", include={"view", "layers", "pooling", "max_length"})
    what = {
        **options,
        "model": fingerprint(request.model, rules),
        "dataset": dataset_digest,
        "generation": EXTRACTION_VERSION,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def choose_device(request: Extraction, word: str) -> str:
    """Return the device to compute on: a GPU if `word` allows one and there is one, unless the model needs none."""
    if parse_model(request.model).kind in {"baseline", "endpoint"}:
        return "cpu"
    card = find_gpu(word)
    return card.name if card else "cpu"


@dataclass
class ExtractionRun:
    """Extraction in progress: model, items and rows so far."""

    request: Extraction
    dataset: OpenDataset
    rows: Checkpoint
    model: EmbeddingModel
    timings_s: dict[str, float] = field(default_factory=dict)
    began_at: int = 0

    @property
    def record(self) -> SetRecord:
        """Record of how the set was made."""
        return SetRecord(
            **self.model.record.model_dump(),
            dataset=self.request.dataset,
            dataset_digest=self.dataset.digest,
            view=self.request.view,
            truncated=self.rows.truncated,
        )

    @property
    def items_per_s(self) -> float | None:
        """Items per second of this run, without loading the model and storing the set."""
        done, seconds = self.rows.done - self.began_at, self.timings_s.get(STAGE, 0.0)
        return round(done / seconds, 3) if done and seconds else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for users of the set."""
        wide = [
            f"Layer {layer.name} is stored in float32: float16 cannot hold its largest value, "
            f"{self.rows.peaks[layer.name]:.3g}."
            for layer in self.rows.layers
            if layer.dtype == "F32"
        ]
        return (*wide, *warn_of_truncation(self.record, self.rows.n))


def warn_of_truncation(record: SetRecord, n: int) -> tuple[str, ...]:
    """Return the warning about truncated items of a set of n items, if any."""
    if not record.truncated:
        return ()
    limit = "the maximum input of the model" if record.max_length is None else f"{record.max_length} tokens"
    return (f"{record.truncated} of {n} items were longer than {limit} and were truncated.",)


def embed(
    request: Extraction,
    dataset: OpenDataset,
    claim: CheckpointClaim,
    *,
    identity: str,
    rules: ModelRules,
    device: str,
    report: Report,
    check_room: Callable[[int], None] = lambda _: None,
) -> ExtractionRun:
    """Embed all items that are not in the checkpoint yet, and add their rows to it.

    `check_room` is called with the minimum size of the set before the first item is embedded. It may raise an error.

    Raises
    ------
    ConsilienceError
        An error of the model, an item, a layer or the disk.
    """
    began = time.monotonic()
    view = dataset.view(request.view)
    report("loading the model", 0, 1)
    with default_pointer("/model"):
        model = open_model(request.model, rules, pooling=request.pooling, max_length=request.max_length, device=device)
        _check_unchanged(request, identify(request, dataset.digest, rules), identity)
    check_kind(model, view, request)
    if isinstance(model, FittableModel):
        report("fitting the model", 0, 1)
        model.fit(_read_all(view))
    with default_pointer("/layers"):
        layers = _choose_layers(request.layers, model.layers)
    rows = claim.open(_describe(model), view.n, layers)
    check_room(rows.kept_bytes)
    run = ExtractionRun(request, dataset, rows, model, began_at=rows.done)
    run.timings_s["model"] = round(time.monotonic() - began, 3)
    began, processor = time.monotonic(), time.process_time()
    _embed_remaining(run, view, report)
    run.timings_s[STAGE] = round(time.monotonic() - began, 3)
    run.timings_s[f"{STAGE}_processor"] = round(time.process_time() - processor, 3)
    return run


def _check_unchanged(request: Extraction, now: str, before: str) -> None:
    """Raise UnreadableFile if the files of the model have changed since the identity was computed."""
    if now != before:
        raise UnreadableFile(
            f"The files of {request.model} changed while the model was loaded.",
            value=request.model,
            hint="Repeat the request when the files no longer change.",
        )


def check_kind(model: EmbeddingModel, view: View, request: Extraction) -> None:
    """Raise InvalidRequest if the model cannot read this kind of view."""
    if view.kind not in model.kinds:
        kinds = " or ".join(sorted(model.kinds))
        raise InvalidRequest(
            f"{request.model} reads {kinds}, but the view {view.name} holds {view.kind}.",
            value=view.name,
            limit=sorted(model.kinds),
            pointer="/view",
        )


def _choose_layers(choice: LayerChoice, layers: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
    if choice == "all":
        return layers
    if choice == "last":
        return layers[-1:]
    return [layers[index] for index in find_layer_indices(layers, tuple(dict.fromkeys(choice)))]


def _read_all(view: View) -> Iterator[ModelInput]:
    step = BLOCK_ITEMS[view.kind]
    for start in range(0, view.n, step):
        yield from view.read(start, min(view.n, start + step))


def _embed_remaining(run: ExtractionRun, view: View, report: Report) -> None:
    rows, dataset = run.rows, run.dataset
    names = [name for name, _ in rows.dims]
    width = 4 * sum(dim for _, dim in rows.dims)
    step = max(1, min(BLOCK_ITEMS[view.kind], BLOCK_BYTES // width))
    report(STAGE, rows.done, view.n)
    while rows.done < view.n:
        start = rows.done
        stop = min(view.n, start + step)
        try:
            encoded = run.model.encode(view.read(start, stop), names)
        except UnusableItem as error:
            item = dataset.ids[start + error.index]
            raise BadItem(f"Item {item!r}: {error.detail}", value=item, hint=error.hint) from error
        for name, matrix in zip(names, encoded.rows, strict=True):
            _check_finite(matrix, name, dataset.ids[start:stop])
        rows.append(encoded.rows, encoded.truncated)
        report(STAGE, stop, view.n)


def _check_finite(matrix: EmbeddingRows, layer: str, ids: tuple[str, ...]) -> None:
    bad = find_non_finite_rows(matrix)
    if bad:
        item = ids[bad[0]]
        raise NonFiniteValues(
            f"The model returned NaN or infinity for {len(bad)} items; the first is {item!r}.",
            value=f"layer {layer} of {item!r}",
            hint="The weights are damaged or overflow in their dtype.",
        )


def _describe(model: EmbeddingModel) -> Mapping[str, Any]:
    """Describe how the rows are made, so that rows of another library or device are not mixed with them."""
    return {"record": model.record.model_dump(mode="json"), "generation": EXTRACTION_VERSION}


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


#: Interval in seconds between two looks at a file that another process is writing.
WAIT_S = 0.5


def extract_to_file(
    request: Extraction, out: Path, *, ids_out: Path | None, folders: Sequence[Path], device: str, report: Report
) -> ExtractionRun:
    """Embed a built-in dataset into a safetensors file with one tensor per layer. The header holds the record.

    An interrupted call resumes when it is repeated: its rows are kept beside the file until the file is complete.

    Parameters
    ----------
    request : Extraction
        Model, dataset and options.
    out, ids_out : Path
        Output files of the rows, and of the items' ids as a JSON list.
    folders : sequence of Path
        Folders whose subfolders are models, beside the cache of the hub. Nothing is downloaded.
    device, report
        See `embed` and `choose_device`.

    Raises
    ------
    ConsilienceError
        An error of the dataset, the model or an item.
    StorageFull, InputError
        A file cannot be written.
    """
    rules = ModelRules(folders=tuple(folder.resolve() for folder in folders), named=find_packaged_models())
    report("opening the dataset", 0, 1)
    dataset = open_dataset(request.dataset)
    dataset.view(request.view)
    identity = identify(request, dataset.digest, rules)
    for file in (out, ids_out or out):
        file.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f"{out.name}.partial")

    def wait() -> None:
        report("waiting for another process that extracts the same set", 0, 1)
        time.sleep(WAIT_S)

    with CheckpointStore(beside).claim(identity, wait) as claim:
        chosen = choose_device(request, device)
        run = embed(request, dataset, claim, identity=identity, rules=rules, device=chosen, report=report)
        write_safetensors(out, run.rows, {"consilience.record": run.record.model_dump_json()})
    if ids_out is not None:
        with atomic_write(ids_out) as ids:
            ids.write(json.dumps(dataset.ids).encode())
    with suppress(OSError):  # the folder may hold rows of another call
        (beside / "extracting").rmdir()
        beside.rmdir()
    return run
