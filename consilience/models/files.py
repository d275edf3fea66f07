"""Where a model's files are: in a folder of the operator's, or in the hub's cache. Weights are safetensors or refused.

Everything is read from a folder afterwards, so that no library looks for anything in the network, and so that what
was checked here is what is loaded.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from consilience.contract.models import ModelName
from consilience.errors import ModelNotAllowed, Unavailable, UnknownModel, UnreadableFile, UnsupportedFormat
from consilience.models.base import require
from consilience.models.rules import ModelRules

#: What is fetched of a repository: never pickles, never code.
DOWNLOADED_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")
#: Files whose weights are pickles, or formats that are not read here.
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
#: Organisations that are left out of a name.
_ORGANISATIONS = {"st": "sentence-transformers", "timm": "timm"}
_SHARD = re.compile(r"[A-Za-z0-9_.-]+\.safetensors")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelSource:
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


def find_model_source(name: ModelName, identifier: str, rules: ModelRules) -> ModelSource:
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
    with _reading_files(identifier):
        folder = _find_path(name, rules) if name.kind == "local" else _find_named(name, rules)
        if folder is not None:
            check_weights(folder, identifier)
            return ModelSource(identifier, folder, f"sha256:{_hash_folder(folder)}")
    folder = _find_in_hub(name, identifier, rules)
    with _reading_files(identifier):
        check_weights(folder, identifier)
    return ModelSource(identifier, folder, folder.name)


@contextmanager
def _reading_files(identifier: str) -> Iterator[None]:
    """What the system says of a file, without the path to it, which is the operator's."""
    try:
        yield
    except OSError as error:
        raise UnreadableFile(
            f"The files of {identifier} cannot be read: {error.strerror or type(error).__name__}.",
            value=Path(str(error.filename)).name if error.filename else identifier,
            hint="They were moved while they were read, or the worker may not read them: try again, or ask the operator.",
        ) from error


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
        pickles = sorted(file.name for pattern in PICKLE_PATTERNS for file in place.glob(pattern))
        if pickles and not safe:
            raise UnsupportedFormat(
                f"The weights of {identifier} are pickles, which can run code when they are read.",
                value=pickles[0],
                hint="Convert them to safetensors.",
            )
        if place == folder and not safe:
            raise UnreadableFile(
                f"{identifier} has no weights.",
                value=identifier,
                hint="They are *.safetensors files: fetch the model again, or convert them.",
            )
    for index in folder.glob("*.index.json"):
        _check_index(index, identifier)


def read_json(file: Path, identifier: str) -> object:
    """A JSON file of the model's; UnreadableFile where it is none."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) else error  # an OSError's own words hold the path
        raise UnreadableFile(
            f"{file.name} of {identifier} cannot be read: {said}.",
            value=file.name,
            hint="It is damaged or missing: fetch the model's files again.",
        ) from error


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


def _find_path(name: ModelName, rules: ModelRules) -> Path:
    roots = (*rules.folders, *rules.named.values())
    places = [Path(name.name)] if name.name.startswith("/") else [root / name.name for root in roots]
    found = _find_inside(name, places, roots)
    if found is not None:
        return found
    if not any(_is_inside(place, roots) for place in places):
        raise _outside_error(name)
    raise UnknownModel(
        "There is no such folder among the operator's models.",
        value=str(name),
        hint="Perhaps it was moved or deleted: ask the operator, or look how it is called in CONSILIENCE_MODEL_FOLDERS.",
    )


def _find_named(name: ModelName, rules: ModelRules) -> Path | None:
    """A folder of the operator's, where no revision is asked for: folders have none."""
    if name.revision is not None:
        return None
    names = (name.name, _repository_name(name))
    named = next((rules.named[word] for word in names if word in rules.named and rules.named[word].is_dir()), None)
    if named is not None:
        return named
    return _find_inside(name, [root / word for root in rules.folders for word in names], rules.folders)


def _find_inside(name: ModelName, places: Iterable[Path], roots: Iterable[Path]) -> Path | None:
    """The first place that is a folder; ModelNotAllowed where a link of the operator's leads to one outside of the roots."""
    roots = tuple(roots)
    for place in places:
        if _is_inside(place, roots):
            if place.is_dir():
                return _resolve(place)
        elif any(place.is_relative_to(root) for root in roots) and place.is_dir():
            raise _outside_error(name)
    return None


def _is_inside(place: Path, roots: Iterable[Path]) -> bool:
    return any(_resolve(place).is_relative_to(_resolve(root)) for root in roots)


def _resolve(place: Path) -> Path:
    """Where links lead; of links in a circle, the first (`Path.resolve` raises on them, until Python 3.13)."""
    return Path(os.path.realpath(place))


def _outside_error(name: ModelName) -> ModelNotAllowed:
    return ModelNotAllowed(
        "The path is not in a folder that the operator keeps models in.",
        value=str(name),
        hint="The operator can add the folder itself to CONSILIENCE_MODEL_FOLDERS; a link to it does not count.",
    )


def _repository_name(name: ModelName) -> str:
    """The name with its organisation, which may be left out of names of two kinds."""
    organisation = _ORGANISATIONS.get(name.kind)
    return f"{organisation}/{name.name}" if organisation and "/" not in name.name else name.name


def _find_in_hub(name: ModelName, identifier: str, rules: ModelRules) -> Path:
    require("models", "A model of the hub", "huggingface_hub")
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - an extra
    from huggingface_hub.errors import (  # noqa: PLC0415 - the same
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    repository = _repository_name(name)
    try:
        found = snapshot_download(
            repository,
            revision=name.revision,
            allow_patterns=list(DOWNLOADED_PATTERNS),
            local_files_only=not rules.downloads,
        )
    except LocalEntryNotFoundError as error:
        raise UnknownModel(
            f"{identifier} is not on this machine.", value=identifier, hint=_download_hint(rules)
        ) from error
    except HFValidationError as error:
        raise UnknownModel(
            f"No model of the hub can be called {repository!r}.", value=identifier, hint="Look for a slip in its name."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status < 500 and status != 429:
            raise UnknownModel(
                f"The hub has no {repository}, or not for us.",
                value=identifier,
                hint="Look for a slip in its name; the operator's HF_TOKEN opens private models.",
            ) from error
        raise Unavailable(f"The hub answers {status}.", value=identifier) from error
    folder = Path(found)
    if not _COMMIT.fullmatch(folder.name):
        raise UnknownModel(f"{identifier} is in the hub's cache without its commit.", value=identifier)
    return folder


def _download_hint(rules: ModelRules) -> str:
    if rules.downloads:
        return "The hub does not have it, or cannot be reached; HF_HUB_OFFLINE=1 also keeps us from asking."
    return (
        "The operator can put it into a folder of CONSILIENCE_MODEL_FOLDERS, or set CONSILIENCE_MODEL_DOWNLOADS=true."
    )


def _hash_folder(folder: Path) -> str:
    """SHA-256 of what ``sha256sum`` says of the files that may be read, sorted by their paths."""
    files = {
        file.relative_to(folder).as_posix(): file for pattern in DOWNLOADED_PATTERNS for file in folder.rglob(pattern)
    }
    lines = (f"{_hash_file(file)}  {path}\n" for path, file in sorted(files.items()) if file.is_file())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hash_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
