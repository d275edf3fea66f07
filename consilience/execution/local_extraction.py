"""A set that a model makes of a built-in dataset, into a file on this machine."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from consilience.contract.extraction import Extraction
from consilience.datasets.builtin import open_dataset
from consilience.execution.extraction import Making, choose_device, embed, identify
from consilience.formats.drafts import draft
from consilience.formats.rows_writing import write_rows
from consilience.measures.comparison import Report
from consilience.models.rules import Rules, find_packaged
from consilience.stores.partials import Partials

#: Between two looks at a file that another process is making.
WAIT_S = 0.5


def extract_to_file(
    request: Extraction, out: Path, *, ids_out: Path | None, folders: Sequence[Path], device: str, report: Report
) -> Making:
    """Embed a built-in dataset into a safetensors file, a tensor a layer, whose header holds the record.

    A call that was interrupted is gone on with: what it made lies beside the file until that is written.

    Parameters
    ----------
    request : Extraction
        The model, the dataset and the wishes.
    out, ids_out : Path
        Where the rows go, and the items' ids as a JSON list.
    folders : sequence of Path
        Each holds models as subfolders, beside the hub's cache; nothing is fetched.
    device, report
        See `consilience.execution.extraction`.

    Raises
    ------
    ConsilienceError
        Of the dataset, the model or an item.
    StorageFull, InputError
        A file cannot be written.
    """
    rules = Rules(folders=tuple(folder.resolve() for folder in folders), named=find_packaged())
    report("opening the dataset", 0, 1)
    dataset = open_dataset(request.dataset)
    dataset.view(request.view)
    identity = identify(request, dataset.digest, rules)
    for file in (out, ids_out or out):
        file.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f"{out.name}.partial")

    def wait() -> None:
        report("waiting for another process that makes the same set", 0, 1)
        time.sleep(WAIT_S)

    with Partials(beside).claim(identity, wait) as claim:
        chosen = choose_device(request, device)
        making = embed(request, dataset, claim, identity=identity, rules=rules, device=chosen, report=report)
        write_rows(out, making.rows, {"consilience.record": making.record.model_dump_json()})
    if ids_out is not None:
        with draft(ids_out) as ids:
            ids.write(json.dumps(dataset.ids).encode())
    with suppress(OSError):  # another call's rows may lie there
        (beside / "extracting").rmdir()
        beside.rmdir()
    return making
