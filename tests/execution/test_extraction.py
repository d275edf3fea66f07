"""What happens between a model and the store: refusals, warnings, and files on this machine."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from consilience.contract.extraction import Extraction
from consilience.contract.records import ModelRecord
from consilience.datasets.views import OpenDataset, TextView
from consilience.errors import BadItem, InvalidRequest, NonFiniteValues, UnknownLayer, UnreadableFile
from consilience.execution import extraction
from consilience.execution.extraction import extract_to_file
from consilience.formats.files import FormatLimits, open_file
from consilience.models.base import Encoded, ModelInput, UnusableItem
from consilience.models.rules import Endpoint, ModelRules
from consilience.stores.checkpoints import CheckpointStore

TEXTS = tuple(f"text {i}" for i in range(600))
DATASET = OpenDataset("some", tuple(f"item {i}" for i in range(600)), (TextView("text", "text", TEXTS),))
WISH = Extraction(model="baseline:random?dim=4", dataset="some", view="text")


class Odd:
    """A model whose rows are those of its number in the text, with an oddity where a test wants one."""

    kinds = frozenset({"text"})
    layers = (("low", 2), ("high", 3))
    record = ModelRecord(model="odd", pooling="built_in", dtype="float32", libraries={}, device="cpu")

    def __init__(self, scale: float = 1.0, bad: int | None = None, unusable: int | None = None) -> None:
        self.scale, self.bad, self.unusable = scale, bad, unusable

    def encode(self, items: Sequence[ModelInput], layers: Sequence[str]) -> Encoded:
        numbers = [int(str(item).split()[1]) for item in items]
        if self.unusable in numbers:
            raise UnusableItem("The text has no tokens.", index=numbers.index(self.unusable), hint="Leave it out.")
        columns = np.array(numbers, np.float32)[:, None] * self.scale
        columns[[number == self.bad for number in numbers]] = np.nan
        dims = dict(self.layers)
        return Encoded(tuple(np.repeat(columns, dims[name], axis=1) for name in layers), truncated=1)


def embed(
    tmp_path: Path, model: Odd, monkeypatch: pytest.MonkeyPatch, wish: Extraction = WISH
) -> extraction.ExtractionRun:
    monkeypatch.setattr(extraction, "open_model", lambda *_, **__: model)
    with CheckpointStore(tmp_path).claim("a" * 64, lambda: None) as claim:
        identity = extraction.identify(wish, DATASET.digest, ModelRules())
        return extraction.embed(
            wish, DATASET, claim, identity=identity, rules=ModelRules(), device="cpu", report=lambda *_: None
        )


def test_the_layers_that_were_asked_for_are_made_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(layers: object) -> list[str]:
        wish = Extraction.model_validate({**WISH.model_dump(), "layers": layers})
        return [layer.name for layer in embed(tmp_path, Odd(), monkeypatch, wish).rows.layers]

    assert (names("all"), names("last"), names(["high", "low", "high"])) == (["low", "high"], ["high"], ["high", "low"])
    with pytest.raises(UnknownLayer, match="'middle'"):
        names(["middle"])


def test_truncated_items_and_large_values_are_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making = embed(tmp_path, Odd(scale=1e6), monkeypatch)
    assert making.record.truncated == 3, "one of each block"
    assert "3 of 600 items were longer" in making.warnings[-1]
    assert "stored in float32: float16 cannot hold its largest value, 5.99e+08" in making.warnings[0]


def test_a_model_that_is_exchanged_while_it_is_read_is_not_kept_as_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "open_model", lambda *_, **__: Odd())
    before = extraction.identify(WISH.model_copy(update={"max_length": 3}), DATASET.digest, ModelRules())
    with (
        pytest.raises(UnreadableFile, match="changed while the model was loaded"),
        CheckpointStore(tmp_path).claim(before, lambda: None) as claim,
    ):
        extraction.embed(
            WISH, DATASET, claim, identity=before, rules=ModelRules(), device="cpu", report=lambda *_: None
        )
    assert list((tmp_path / "extracting").iterdir()) == [], "nothing was made"


def test_an_item_without_a_row_is_named_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadItem, match="Item 'item 300': The text has no tokens") as caught:
        embed(tmp_path, Odd(unusable=300), monkeypatch)
    assert (caught.value.value, caught.value.hint) == ("item 300", "Leave it out.")


def test_a_model_that_returns_nan_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NonFiniteValues, match="1 items; the first is 'item 599'"):
        embed(tmp_path, Odd(bad=599), monkeypatch)


def test_a_view_that_the_model_cannot_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Odd()
    model.kinds = frozenset({"image"})  # type: ignore[misc]  # as a folder's model turns out
    with pytest.raises(InvalidRequest, match="reads image, but the view text holds text"):
        embed(tmp_path, model, monkeypatch)


@pytest.mark.parametrize(
    "change", [{"view": "code"}, {"layers": "last"}, {"max_length": 5}, {"model": "baseline:random?dim=5"}]
)
def test_whatever_decides_the_rows_decides_the_identity(change: dict[str, object]) -> None:
    other = Extraction.model_validate({**WISH.model_dump(), **change})
    assert extraction.identify(WISH, "d" * 64, ModelRules()) != extraction.identify(other, "d" * 64, ModelRules())
    assert extraction.identify(WISH, "d" * 64, ModelRules()) != extraction.identify(WISH, "e" * 64, ModelRules())


def test_a_models_files_its_loader_its_pooling_and_its_server_decide_the_identity(tmp_path: Path) -> None:
    for name, weights in (("one", b"1"), ("other", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)

    def identity(model: str, pooling: str = "auto", url: str = "http://a/v1", served: str = "m") -> str:
        rules = ModelRules(folders=(tmp_path,), endpoints={"e": Endpoint(url, served, None)})
        wish = Extraction.model_validate({**WISH.model_dump(), "model": model, "pooling": pooling})
        return extraction.identify(wish, DATASET.digest, rules)

    of_files = [identity("hf:one"), identity("hf:other"), identity("st:one"), identity("hf:one", "cls")]
    of_servers = [
        identity("endpoint:e"), identity("endpoint:e", url="http://b/v1"), identity("endpoint:e", served="n")
    ]  # fmt: skip
    assert len({*of_files, *of_servers}) == 7
    (tmp_path / "one" / "model.safetensors").write_bytes(b"3")
    assert identity("hf:one") not in of_files


def test_spelling_out_a_default_changes_nothing() -> None:
    spelled = WISH.model_copy(update={"model": "baseline:random?dim=4&seed=0", "dataset": "the same by another name"})
    assert extraction.identify(WISH, "d" * 64, ModelRules()) == extraction.identify(spelled, "d" * 64, ModelRules())


def test_a_set_is_extracted_to_a_file(tmp_path: Path) -> None:
    wish = Extraction(model="baseline:random?dim=4", dataset="scenes:n=8", view="code")
    out, ids = tmp_path / "new" / "rows.safetensors", tmp_path / "ids.json"
    making = extract_to_file(wish, out, ids_out=ids, folders=(), device="cpu", report=lambda *_: None)
    with open_file(out, None, FormatLimits()) as file:
        assert [(layer.name, layer.n, layer.dim, layer.dtype) for layer in file.layers] == [("0", 8, 4, "F16")]
        assert len(list(file.blocks())) == 1
    assert json.loads(ids.read_text()) == [f"scene-{i:06}" for i in range(8)]
    assert making.record.view == "code"
    assert {path.name for path in out.parent.iterdir()} == {"rows.safetensors"}
