"""Loaders do not access the network, write output or load pickles."""

import subprocess
import sys
from pathlib import Path

import pytest

WATCH = """
import sys

def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo"}:
        raise AssertionError(f"{event} {arguments}")
    if event == "pickle.find_class":
        raise AssertionError(f"unpickled {arguments}")

sys.addaudithook(refuse)
"""
OPEN = """
import sys
from pathlib import Path
from consilience.models.registry import open_model
from consilience.models.rules import ModelRules

rules = ModelRules(folders=(Path(sys.argv[1]),))
for identifier in sys.argv[2:]:
    print(*(name for name, _ in open_model(identifier, rules).layers))
"""


def test_models_are_opened_without_network_and_without_output(folders: Path) -> None:
    identifiers = ("hf:tiny-bert", "st:tiny-sentences", "timm:tiny-vit")
    ran = subprocess.run(
        [sys.executable, "-c", WATCH + OPEN, str(folders), *identifiers], capture_output=True, text=True, check=False
    )
    layers = [line.split() for line in ran.stdout.splitlines()]
    assert layers == [["0", "1", "2", "3"], ["embedding"], ["blocks.0", "blocks.1", "blocks.2", "pooled"]], ran.stderr
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("identifier", "module", "extra"),
    [
        ("hf:tiny-bert", "transformers", "models"),
        ("st:tiny-sentences", "sentence_transformers", "models"),
        ("timm:tiny-vit", "timm", "vision"),
        ("baseline:tfidf-svd", "sklearn", "models"),
        ("baseline:pixels", "PIL", "vision"),
        ("hf:acme/of-the-hub", "huggingface_hub", "models"),
    ],
)
def test_a_missing_library_is_reported_with_its_extra(identifier: str, module: str, extra: str, folders: Path) -> None:
    missing = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == {module!r} else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""
    ran = subprocess.run(
        [sys.executable, "-c", missing + OPEN, str(folders), identifier], capture_output=True, text=True, check=False
    )
    message = ran.stderr.strip().splitlines()[-1]
    assert "MissingExtra" in message
    assert module in message
    assert f"consilience[{extra}]" in message
