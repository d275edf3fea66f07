import json
import platform
from hashlib import sha256
from pathlib import Path

import pytest

from consilience.datasets.builtin import open_stdlib_docs
from consilience.datasets.views import OpenDataset

#: Id, SHA-256 of the docstring and of the body, of 512 functions of CPython 3.11.7.
DEV_ITEMS = json.loads((Path(__file__).parent / "stdlib_dev_items.json").read_text())


@pytest.fixture(scope="module")
def stdlib() -> OpenDataset:
    return open_stdlib_docs()


def texts_of(dataset: OpenDataset, view: str) -> list[str]:
    return [str(text) for text in dataset.view(view).read(0, dataset.n)]


@pytest.mark.skipif(platform.python_version() != "3.11.7", reason="another Python has another library")
def test_the_512_reference_items_are_reproduced_exactly(stdlib: OpenDataset) -> None:
    chosen = stdlib.select([item for item, _, _ in DEV_ITEMS])
    found = zip(chosen.ids, texts_of(chosen, "text"), texts_of(chosen, "code"), strict=True)
    digests = [[name, sha256(doc.encode()).hexdigest(), sha256(code.encode()).hexdigest()] for name, doc, code in found]
    assert digests == DEV_ITEMS
    assert stdlib.n == 2707


def test_every_item_respects_the_lengths_and_none_is_repeated(stdlib: OpenDataset) -> None:
    docs, code = texts_of(stdlib, "text"), texts_of(stdlib, "code")
    assert stdlib.n > 2000
    assert all(30 <= len(doc) <= 400 and "\n" not in doc for doc in docs)
    assert all(80 <= len(body) <= 1500 for body in code)
    assert len(set(stdlib.ids)) == len(set(docs)) == len(set(code)) == stdlib.n
    assert not any(name.startswith(("test/", "idlelib/", "lib2to3/")) or "/tests/" in name for name in stdlib.ids)


def write_function(name: str, doc: str) -> str:
    body = (
        f'    first = "{name}" * 20\n    return "a body of some length, as it must be, which says: " + first + "{doc}"'
    )
    return f'def {name}():\n    """{doc}\n\n    More.\n    """\n{body}\n'


def test_files_are_sorted_by_path_and_unparsable_ones_are_skipped(tmp_path: Path) -> None:
    for file in ("b.py", "a/z.py", "a.py", "test/c.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(write_function("f", f"The one and only function of the file {file}."))
    (tmp_path / "template.py").write_text("def $name():")
    dataset = open_stdlib_docs(tmp_path)
    assert dataset.ids == ("a/z.py:1:f", "a.py:1:f", "b.py:1:f")
    assert texts_of(dataset, "text")[0] == "The one and only function of the file a/z.py."


def test_a_later_repeat_of_a_text_is_left_out(tmp_path: Path) -> None:
    doc = "Say the same thing as another function does."
    (tmp_path / "a.py").write_text(write_function("f", doc) + write_function("g", doc) + write_function("h", doc + "!"))
    assert open_stdlib_docs(tmp_path).ids == ("a.py:1:f", "a.py:15:h")
