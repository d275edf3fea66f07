"""Where a model's files are: in a folder of the operator's, or in the hub's cache. Weights are safetensors or refused.

Everything is read from a folder afterwards, so that no library looks for anything in the network, and so that what
was checked here is what is loaded.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from consilience.contract.models import ModelName
from consilience.errors import ModelNotAllowed, Unavailable, UnknownModel, UnreadableFile, UnsupportedFormat
from consilience.models.extras import require
from consilience.models.rules import Rules

#: What is fetched of a repository: never pickles, never code.
FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model")
#: Files whose weights are pickles, or formats that are not read here.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
#: Organisations that are left out of a name.
_ORGANISATIONS = {"st": "sentence-transformers", "timm": "timm"}
_SHARD = re.compile(r"[A-Za-z0-9_.-]+\.safetensors")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Source:
    """A model's folder.

    Attributes
    ----------
    name : the identifier, for errors and the record
    folder : where the files are
    revision : a commit of the hub, or ``sha256:`` and a digest
    """

    name: str
    folder: Path
    revision: str

    @property
    def tokenizer(self) -> str | None:
        """The digest of tokenizer.json."""
        file = self.folder / "tokenizer.json"
        return f"sha256:{_hash_file(file)}" if file.is_file() else None


def find_source(name: ModelName, identifier: str, rules: Rules) -> Source:
    """The folder of a model.

    Raises
    ------
    UnknownModel
        It is nowhere.
    ModelNotAllowed
        A path outside the operator's folders.
    UnsupportedFormat, UnreadableFile
        Its weights are pickles, or missing.
    Unavailable
        The hub does not answer.
    """
    folder = _find_path(name, rules) if name.kind == "local" else _find_named(name, rules)
    if folder is not None:
        check_weights(folder, identifier)
        return Source(identifier, folder, f"sha256:{_hash_folder(folder)}")
    folder = _find_in_hub(name, identifier, rules)
    check_weights(folder, identifier)
    return Source(identifier, folder, folder.name)


def check_weights(folder: Path, identifier: str) -> None:
    """Refuse a folder whose weights are not safetensors, before anything is loaded.

    Raises
    ------
    UnsupportedFormat
        There are pickles in their place, or an adapter, which is weights of another model.
    UnreadableFile
        There are none, or the list of their parts is damaged.
    """
    if (folder / "adapter_config.json").exists():
        raise UnsupportedFormat(
            f"{identifier} is an adapter of another model.", value=identifier, hint="Merge it into its base model."
        )
    for place in (folder, *_module_folders(folder, identifier)):
        safe = any(place.glob("*.safetensors"))
        pickles = sorted(file.name for pattern in PICKLES for file in place.glob(pattern))
        if pickles and not safe:
            raise UnsupportedFormat(
                f"The weights of {identifier} are pickles, which can run code when they are read.",
                value=pickles[0],
                hint="Convert them to safetensors.",
            )
        if place == folder and not safe:
            raise UnreadableFile(
                f"{identifier} has no weights.", value=identifier, hint="They are *.safetensors files."
            )
    for index in folder.glob("*.index.json"):
        _check_index(index, identifier)


def read_json(file: Path, identifier: str) -> object:
    """A JSON file of the model's; UnreadableFile where it is none."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableFile(f"{file.name} of {identifier} cannot be read: {error}.", value=file.name) from error


def _module_folders(folder: Path, identifier: str) -> Iterable[Path]:
    """The folders of the modules of sentence-transformers; none of its classes may come from elsewhere."""
    file = folder / "modules.json"
    if not file.exists():
        return []
    modules = read_json(file, identifier)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise UnreadableFile(f"modules.json of {identifier} is no list of modules.", value=identifier)
    for module in modules:
        kind, path = str(module.get("type")), str(module.get("path", ""))
        if not kind.startswith("sentence_transformers."):
            raise UnsupportedFormat(f"{identifier} needs code that comes with it, which is never run.", value=kind)
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise UnreadableFile(f"modules.json of {identifier} leads out of its folder.", value=path)
    return [folder / str(module.get("path", "")) for module in modules]


def _check_index(index: Path, identifier: str) -> None:
    """The parts of weights are safetensors beside their list."""
    content = read_json(index, identifier)
    parts = content.get("weight_map") if isinstance(content, dict) else None
    if "safetensors" not in index.name:
        return
    if not isinstance(parts, dict):
        raise UnreadableFile(f"{index.name} of {identifier} is no list of weights.", value=index.name)
    for part in parts.values():
        if not isinstance(part, str) or not _SHARD.fullmatch(part) or not (index.parent / part).is_file():
            raise UnreadableFile(f"{index.name} of {identifier} names weights that are not there.", value=part)


def _find_path(name: ModelName, rules: Rules) -> Path:
    roots = (*rules.folders, *rules.named.values())
    places = [Path(name.name)] if name.name.startswith("/") else [root / name.name for root in roots]
    inside = [
        place.resolve() for place in places if any(place.resolve().is_relative_to(root.resolve()) for root in roots)
    ]
    if not inside:
        raise ModelNotAllowed(
            "The path is not in a folder that the operator keeps models in.",
            value=str(name),
            hint="The operator can add its folder to CONSILIENCE_MODEL_FOLDERS.",
        )
    found = next((place for place in inside if place.is_dir()), None)
    if found is None:
        raise UnknownModel("There is no such folder.", value=str(name))
    return found


def _find_named(name: ModelName, rules: Rules) -> Path | None:
    """A folder of the operator's, where no revision is asked for: folders have none."""
    if name.revision is not None:
        return None
    names = {name.name, _name_repository(name)}
    named = (folder for word, folder in rules.named.items() if word in names)
    inside = (root / word for root in rules.folders for word in (name.name, _name_repository(name)))
    return next((place for place in (*named, *inside) if place.is_dir()), None)


def _name_repository(name: ModelName) -> str:
    """The name with its organisation, which may be left out of names of two kinds."""
    organisation = _ORGANISATIONS.get(name.kind)
    return f"{organisation}/{name.name}" if organisation and "/" not in name.name else name.name


def _find_in_hub(name: ModelName, identifier: str, rules: Rules) -> Path:
    require("models", "A model of the hub", "huggingface_hub")
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - an extra
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415 - the same

    repository = _name_repository(name)
    try:
        found = snapshot_download(
            repository, revision=name.revision, allow_patterns=list(FETCHED), local_files_only=not rules.downloads
        )
    except LocalEntryNotFoundError as error:
        raise UnknownModel(f"{identifier} is not on this machine.", value=identifier, hint=_how(rules)) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status < 500 and status != 429:
            raise UnknownModel(f"The hub has no {repository}, or not for us.", value=identifier) from error
        raise Unavailable(f"The hub answers {status}.", value=identifier) from error
    folder = Path(found)
    if not _COMMIT.fullmatch(folder.name):
        raise UnknownModel(f"{identifier} is in the hub's cache without its commit.", value=identifier)
    return folder


def _how(rules: Rules) -> str:
    if rules.downloads:
        return "The hub does not have it, or cannot be reached; HF_HUB_OFFLINE=1 also keeps us from asking."
    return (
        "The operator can put it into a folder of CONSILIENCE_MODEL_FOLDERS, or set CONSILIENCE_MODEL_DOWNLOADS=true."
    )


def _hash_folder(folder: Path) -> str:
    """SHA-256 of what ``sha256sum`` says of the files that may be read, sorted by their paths."""
    files = {file.relative_to(folder).as_posix(): file for pattern in FETCHED for file in folder.rglob(pattern)}
    lines = (f"{_hash_file(file)}  {path}\n" for path, file in sorted(files.items()) if file.is_file())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hash_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
