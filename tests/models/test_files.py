"""The folder of a model's name, and files that are refused before loading."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from consilience.contract.models import parse_model
from consilience.errors import ConsilienceError, ModelNotAllowed, UnknownModel, UnreadableFile, UnsupportedFormat
from consilience.models.files import ModelSource, find_model_source
from consilience.models.registry import open_model
from consilience.models.rules import ModelRules, find_packaged_models

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def find(identifier: str, rules: ModelRules) -> ModelSource:
    return find_model_source(parse_model(identifier), identifier, rules)


@pytest.fixture
def hub(copy_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one model, in the layout of huggingface_hub."""
    from huggingface_hub import constants

    root = tmp_path / "hub"
    model = root / "models--acme--tiny"
    (model / "snapshots").mkdir(parents=True)
    copy_of("tiny-bert").rename(model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    return model


def test_a_model_in_the_hubs_cache_has_its_commit_as_revision(hub: Path) -> None:
    assert find("hf:acme/tiny", ModelRules()).revision == COMMIT
    assert find(f"hf:acme/tiny@{COMMIT}", ModelRules()).folder == hub / "snapshots" / COMMIT


def test_a_revision_that_is_not_installed_is_unknown(hub: Path) -> None:
    with pytest.raises(UnknownModel, match="not installed on this machine"):
        find("hf:acme/tiny@v2", ModelRules())


def test_an_unknown_model_is_reported_with_a_hint_how_to_get_it() -> None:
    with pytest.raises(UnknownModel, match="CONSILIENCE_MODEL_DOWNLOADS") as caught:
        find("hf:acme/nothing", ModelRules())
    assert caught.value.value == "hf:acme/nothing"


def test_the_operators_folders_come_before_the_hub(folders: Path) -> None:
    found = find("hf:tiny-bert", ModelRules(folders=(folders,)))
    assert found.folder == folders / "tiny-bert"
    named = find("st:acme/other-name", ModelRules(named={"acme/other-name": folders / "tiny-bert"}))
    assert named.folder == found.folder
    assert named.revision == found.revision


def test_an_organisation_may_be_left_out_as_on_the_hub(folders: Path) -> None:
    rules = ModelRules(
        named={"sentence-transformers/tiny": folders / "tiny-sentences", "timm/tiny": folders / "tiny-vit"}
    )
    assert find("st:tiny", rules).folder == folders / "tiny-sentences"
    assert find("timm:tiny", rules).folder == folders / "tiny-vit"
    with pytest.raises(UnknownModel):
        find("hf:tiny", rules)


def test_the_revision_of_a_folder_equals_that_of_sha256sum(folders: Path) -> None:
    summed = subprocess.run(  # noqa: S602 - a pipeline of fixed words
        "find . -type f \\( -name '*.json' -o -name '*.safetensors' -o -name '*.txt' -o -name '*.model' \\) -printf '%P\\n'"
        " | LC_ALL=C sort | xargs sha256sum | sha256sum",
        cwd=folders / "tiny-gpt",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert find("hf:tiny-gpt", ModelRules(folders=(folders,))).revision == f"sha256:{summed.stdout.split()[0]}"


def test_a_path_must_be_in_a_folder_of_the_operator(folders: Path, tmp_path: Path) -> None:
    rules = ModelRules(folders=(folders,))
    assert find("local:tiny-bert", rules).folder == folders / "tiny-bert"
    assert find(f"local:{folders}/tiny-bert", rules).folder == folders / "tiny-bert"
    with pytest.raises(ModelNotAllowed, match="is not in one of the operator's model folders"):
        find(f"local:{tmp_path}", rules)
    with pytest.raises(ModelNotAllowed, match="is not in one of the operator's model folders"):
        find("local:tiny-bert", ModelRules())
    with pytest.raises(UnknownModel, match="is not among the operator's models"):
        find("local:nothing", rules)


def test_a_link_to_outside_the_folders_is_not_followed(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(folders / "tiny-bert")
    (tmp_path / "inside" / "knot").symlink_to(tmp_path / "inside" / "knot")
    rules = ModelRules(folders=(tmp_path / "inside",), named=find_packaged_models())
    for identifier in ("local:link", f"local:{tmp_path}/inside/link", "hf:link", "st:link"):
        with pytest.raises(ModelNotAllowed, match="is not in one of the operator's model folders"):
            find(identifier, rules)
    with pytest.raises(UnknownModel):
        find("local:knot", rules)


def test_a_link_inside_the_folders_is_followed(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folders / "tiny-bert")
    assert find("hf:link", ModelRules(folders=(tmp_path, folders))).folder == folders / "tiny-bert"


@pytest.mark.parametrize("name", ["acme/a--b", "a.git", "x" * 120])
def test_a_name_that_is_invalid_on_the_hub_is_unknown(name: str) -> None:
    with pytest.raises(UnknownModel, match="is not a valid name of a model"):
        find(f"hf:{name}", ModelRules())


def test_an_unreadable_file_is_named_without_its_path(copy_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copy_of("tiny-bert")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/proc/self/mem")  # it is there, and reading it fails
    with pytest.raises(UnreadableFile, match=r"The files of hf:tiny-bert cannot be read") as caught:
        find("hf:tiny-bert", ModelRules(folders=(tmp_path,)))
    assert str(tmp_path) not in str(caught.value)


def pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def parts_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}')


def parts_that_are_pickles(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "pytorch_model.bin"}}')


def an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/etc"}')


def a_module_of_its_own(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": "os.system"}]))


def a_module_elsewhere(folder: Path) -> None:
    module = {"path": "../..", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([module]))


def a_module_of_pickles(folder: Path) -> None:
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    module = {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([module]))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (pickle_alone, UnsupportedFormat, "are pickles"),
        (no_weights, UnreadableFile, "has no weights"),
        (parts_elsewhere, UnreadableFile, "do not exist"),
        (parts_that_are_pickles, UnreadableFile, "do not exist"),
        (an_adapter, UnsupportedFormat, "adapter"),
        (a_module_of_its_own, UnsupportedFormat, "needs its own code"),
        (a_module_elsewhere, UnreadableFile, "outside its folder"),
        (a_module_of_pickles, UnsupportedFormat, "are pickles"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_files_that_could_run_code_are_refused_before_loading(
    damage: Callable[[Path], None],
    error: type[ConsilienceError],
    message: str,
    copy_of: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    damage(copy_of("tiny-bert"))
    for kind in ("hf", "st", "local"):
        with pytest.raises(error, match=message):
            find(f"{kind}:tiny-bert", ModelRules(folders=(tmp_path,)))


def test_a_forbidden_model_is_refused_before_it_is_searched(folders: Path) -> None:
    with pytest.raises(ModelNotAllowed, match="CONSILIENCE_MODELS"):
        open_model("hf:tiny-bert", ModelRules(allowed=("baseline:*",), folders=(folders,)))
