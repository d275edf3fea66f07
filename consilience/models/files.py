"""Locating a model's files, in a folder of the operator or in the hub's cache, and checking them.

Weights must be safetensors. Models are loaded from the folder that was checked here, and no library accesses the network.
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

#: Files that are downloaded from a repository: never pickles, never code.
DOWNLOADED_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")
#: Weight files that are pickles or in other unsupported formats.
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
#: Organisations that a name may leave out.
_ORGANISATIONS = {"st": "sentence-transformers", "timm": "timm"}
_SHARD = re.compile(r"[A-Za-z0-9_.-]+\.safetensors")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelSource:
    """Folder and revision of a model.

    Attributes
    ----------
    name : the identifier, for errors and the record
    folder : folder of the model's files
    revision : a commit of the hub, or ``sha256:`` and a digest
    """

    name: str
    folder: Path
    revision: str

    @property
    def tokenizer(self) -> str | None:
        """Digest of tokenizer.json, if it exists."""
        file = self.folder / "tokenizer.json"
        return f"sha256:{_hash_file(file)}" if file.is_file() else None


def find_model_source(name: ModelName, identifier: str, rules: ModelRules) -> ModelSource:
    """Find the folder of a model and check its weights.

    Raises
    ------
    UnknownModel
        The model was not found.
    ModelNotAllowed
        The path is outside the operator's folders.
    UnsupportedFormat, UnreadableFile
        The weights are pickles, or missing.
    Unavailable
        The hub does not respond.
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
    """Turn an OSError into UnreadableFile without the file's path, which is private to the operator."""
    try:
        yield
    except OSError as error:
        raise UnreadableFile(
            f"The files of {identifier} cannot be read: {error.strerror or type(error).__name__}.",
            value=Path(str(error.filename)).name if error.filename else identifier,
            hint="The files were moved during reading, or the worker has no permission: try again, or ask the operator.",
        ) from error


def check_weights(folder: Path, identifier: str) -> None:
    """Check that a folder's weights are safetensors, before anything is loaded.

    Raises
    ------
    UnsupportedFormat
        The weights are pickles, or an adapter of another model.
    UnreadableFile
        There are no weights, or their index is damaged.
    """
    if (folder / "adapter_config.json").exists():
        raise UnsupportedFormat(
            f"{identifier} is an adapter and not a complete model.",
            value=identifier,
            hint="Merge the adapter into its base model.",
        )
    for part in (folder, *_module_folders(folder, identifier)):
        safe = any(part.glob("*.safetensors"))
        pickles = sorted(file.name for pattern in PICKLE_PATTERNS for file in part.glob(pattern))
        if pickles and not safe:
            raise UnsupportedFormat(
                f"The weights of {identifier} are pickles, which can run code during loading and are never read.",
                value=pickles[0],
                hint="Convert the weights to safetensors.",
            )
        if part == folder and not safe:
            raise UnreadableFile(
                f"{identifier} has no weights: its folder has no *.safetensors file.",
                value=identifier,
                hint="Download the model again, or convert its weights to safetensors.",
            )
    for index in folder.glob("*.index.json"):
        _check_index(index, identifier)


def read_json(file: Path, identifier: str) -> object:
    """Read a JSON file of a model. Raises UnreadableFile if it is missing or not valid JSON."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error  # the text of an OSError contains the path
        raise UnreadableFile(
            f"The file {file.name} of {identifier} cannot be read: {reason}.",
            value=file.name,
            hint="The file is damaged or missing: download the model again.",
        ) from error


def _module_folders(folder: Path, identifier: str) -> Iterable[Path]:
    """Return the folders of the modules of a sentence-transformers model; refuse classes of other packages."""
    file = folder / "modules.json"
    if not file.exists():
        return []
    modules = read_json(file, identifier)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise UnreadableFile(f"The file modules.json of {identifier} is not a list of modules.", value=identifier)
    for module in modules:
        kind, path = str(module.get("type")), str(module.get("path", ""))
        if not kind.startswith("sentence_transformers."):
            raise UnsupportedFormat(
                f"{identifier} needs its own code ({kind[:100]}), which is never run.",
                value=kind,
                hint="Choose a model that sentence-transformers supports without custom code.",
            )
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise UnreadableFile(
                f"The file modules.json of {identifier} refers to a path outside its folder.", value=path
            )
    return [folder / str(module.get("path", "")) for module in modules]


def _check_index(index: Path, identifier: str) -> None:
    """Check that the weight files of an index are safetensors in the same folder."""
    content = read_json(index, identifier)
    parts = content.get("weight_map") if isinstance(content, dict) else None
    if "safetensors" not in index.name:
        return
    if not isinstance(parts, dict):
        raise UnreadableFile(f"The file {index.name} of {identifier} is not an index of weights.", value=index.name)
    for part in parts.values():
        if not isinstance(part, str) or not _SHARD.fullmatch(part) or not (index.parent / part).is_file():
            raise UnreadableFile(
                f"The file {index.name} of {identifier} names weights that do not exist.",
                value=part,
                hint="Download the model again.",
            )


def _find_path(name: ModelName, rules: ModelRules) -> Path:
    roots = (*rules.folders, *rules.named.values())
    candidates = [Path(name.name)] if name.name.startswith("/") else [root / name.name for root in roots]
    found = _find_inside(name, candidates, roots)
    if found is not None:
        return found
    if not any(_is_inside(candidate, roots) for candidate in candidates):
        raise _outside_error(name)
    raise UnknownModel(
        "The folder is not among the operator's models.",
        value=str(name),
        hint="Check the name in CONSILIENCE_MODEL_FOLDERS, or ask the operator: the folder may be moved or deleted.",
    )


def _find_named(name: ModelName, rules: ModelRules) -> Path | None:
    """Return the operator's folder of a model; None with a revision, because folders have none."""
    if name.revision is not None:
        return None
    names = (name.name, _repository_name(name))
    named = next((rules.named[each] for each in names if each in rules.named and rules.named[each].is_dir()), None)
    if named is not None:
        return named
    return _find_inside(name, [root / each for root in rules.folders for each in names], rules.folders)


def _find_inside(name: ModelName, candidates: Iterable[Path], roots: Iterable[Path]) -> Path | None:
    """Return the first candidate that is a folder. Raises ModelNotAllowed for a link that leads outside the roots."""
    roots = tuple(roots)
    for candidate in candidates:
        if _is_inside(candidate, roots):
            if candidate.is_dir():
                return _resolve(candidate)
        elif any(candidate.is_relative_to(root) for root in roots) and candidate.is_dir():
            raise _outside_error(name)
    return None


def _is_inside(path: Path, roots: Iterable[Path]) -> bool:
    return any(_resolve(path).is_relative_to(_resolve(root)) for root in roots)


def _resolve(path: Path) -> Path:
    """Resolve links; unlike `Path.resolve` before Python 3.13, circular links raise no error."""
    return Path(os.path.realpath(path))


def _outside_error(name: ModelName) -> ModelNotAllowed:
    return ModelNotAllowed(
        "The path is not in one of the operator's model folders.",
        value=str(name),
        hint="The operator can add the folder itself to CONSILIENCE_MODEL_FOLDERS; a link to it is not enough.",
    )


def _repository_name(name: ModelName) -> str:
    """Return the name with its organisation, which names of two kinds may leave out."""
    organisation = _ORGANISATIONS.get(name.kind)
    return f"{organisation}/{name.name}" if organisation and "/" not in name.name else name.name


def _find_in_hub(name: ModelName, identifier: str, rules: ModelRules) -> Path:
    require("models", "Loading a model of the hub", "huggingface_hub")
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
            f"{identifier} is not installed on this machine.", value=identifier, hint=_download_hint(rules)
        ) from error
    except HFValidationError as error:
        raise UnknownModel(
            f"{repository!r} is not a valid name of a model of the hub.",
            value=identifier,
            hint="Check the name for typing errors.",
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status < 500 and status != 429:
            raise UnknownModel(
                f"The hub has no model {repository}, or does not allow access to it.",
                value=identifier,
                hint="Check the name for typing errors; private models need the operator's HF_TOKEN.",
            ) from error
        raise Unavailable(
            f"The hub responded with status {status}.", value=identifier, hint="Try again later."
        ) from error
    folder = Path(found)
    if not _COMMIT.fullmatch(folder.name):
        raise UnknownModel(
            f"The hub's cache has {identifier} without its commit.", value=identifier, hint="Download the model again."
        )
    return folder


def _download_hint(rules: ModelRules) -> str:
    if rules.downloads:
        return "The hub does not have the model or cannot be reached; HF_HUB_OFFLINE=1 also prevents downloads."
    return (
        "The operator can put the model into a folder of CONSILIENCE_MODEL_FOLDERS, or set "
        "CONSILIENCE_MODEL_DOWNLOADS=true."
    )


def _hash_folder(folder: Path) -> str:
    """Return the SHA-256 of the output of ``sha256sum`` for the files that may be read, sorted by path."""
    files = {
        file.relative_to(folder).as_posix(): file for pattern in DOWNLOADED_PATTERNS for file in folder.rglob(pattern)
    }
    lines = (f"{_hash_file(file)}  {path}\n" for path, file in sorted(files.items()) if file.is_file())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hash_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
