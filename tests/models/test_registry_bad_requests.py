"""Every wish for a set that cannot be fulfilled, over HTTP: what is wrong, the value and what to do; and nothing is left."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.formats.items.item_files import album, jsonl, table, tarred
from tests.models.conftest import save_bert, save_gpt, save_vision
from tests.service.servers import Server, assert_problem, running_beside, running_service
from tests.workers.yard import wait_for

WEIGHTS = "model.safetensors"
#: An environment in which one library is not installed, and another's installation is damaged.
MISSING = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in {"timm", "pyarrow"}
        return None if absent else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
DAMAGED = "raise ImportError('libgomp.so.1: cannot open shared object file')"
ITEMS = [
    {"id": "short", "text": "Parse a date.", "code": "return 1"},
    {"id": "long", "text": "a b c d e f g " * 20, "code": "return 2"},
    {"id": "third", "text": "Close the connection.", "code": "return 3"},
    {"id": "fourth", "text": "Return the names of all files.", "code": "return 4"},
    {"id": "fifth", "text": "Whether two numbers differ.", "code": "return 5"},
]


def cut(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size // 2)


def scramble(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\xff" * 5000)


def pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def strip(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def spoil(folder: Path) -> None:
    """Weights that are whole and hold NaN in the last block."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / WEIGHTS)
    weights["encoder.layer.2.output.dense.weight"][:] = float("nan")
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def deepen(folder: Path) -> None:
    configure(folder, num_hidden_layers=4)


def widen(folder: Path) -> None:
    configure(folder, hidden_size=64)


def bring_code(folder: Path) -> None:
    configure(folder, model_type="own", auto_map={"AutoModel": "modeling_own.Own"})


def forget_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def spoil_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def forget_words(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def swap_words(folder: Path) -> None:
    """The tokenizer of another model, which knows more tokens."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder.parent / "gpt" / name, folder / name)


def configure(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


DAMAGES: tuple[Callable[[Path], None], ...] = (
    cut,
    scramble,
    pickle,
    strip,
    spoil,
    deepen,
    widen,
    bring_code,
    forget_config,
    spoil_config,
    forget_words,
    swap_words,
)


class Bad(NamedTuple):
    """A wish by its model and what differs from the usual one, and what must be said of it."""

    model: str
    code: str
    said: str
    hint: str
    value: str | None = None
    """None: the model."""
    pointer: str | None = "/model"
    change: dict[str, Any] = {}  # noqa: RUF012 - a default of a tuple, which nobody changes


#: What the service itself can know. ROOT and PRIVATE are the operator's folder and one beside it.
REFUSED = (
    Bad("bert", "invalid-request", "named by its kind, a colon and its name", "Kinds are hf, st, timm"),
    Bad("onnx:bert", "invalid-request", "named by its kind, a colon and its name", "Kinds are hf, st, timm"),
    Bad("hf:../private/secret", "invalid-request", "What follows hf:", "is a name such as"),
    Bad("local:../private/secret", "invalid-request", "What follows local:", "without . and .. in it"),
    Bad("local:ROOT/../private/secret", "invalid-request", "What follows local:", "without . and .. in it"),
    Bad("timm:resnet18", "model-not-allowed", "does not allow the model timm:resnet18", "ask the operator"),
    Bad("hf:bert", "unknown-view", "no view 'sound'", "it has: text, code", "sound", "/view", {"view": "sound"}),
    Bad("hf:bert", "not-found", "no such dataset", "", f"ds_{'0' * 32}", "/dataset", {"dataset": f"ds_{'0' * 32}"}),
    Bad("hf:bert", "invalid-request", "", "", "0", "/max_length", {"max_length": 0}),
    Bad("st:bert", "invalid-request", "The pooling of st:bert is auto", "", "cls", "/pooling", {"pooling": "cls"}),
)
#: Models that are reached by a link out of the operator's folder.
LINKS = ("local:link", "local:ROOT/link", "local:above/secret", "hf:link", "hf:above/secret")
#: What only a worker can know.
FAILED = (
    Bad("hf:acme/nothing", "unknown-model", "not on this machine", "CONSILIENCE_MODEL_FOLDERS"),
    Bad("hf:bert@v2", "unknown-model", "not on this machine", "CONSILIENCE_MODEL_FOLDERS"),
    Bad("hf:acme/a--b", "unknown-model", "can be called 'acme/a--b'", "a slip in its name"),
    Bad("endpoint:none", "unknown-model", "no endpoint 'none'", "CONSILIENCE_MODEL_ENDPOINTS"),
    Bad("endpoint:away", "endpoint-failed", "does not answer", "ask the operator"),
    Bad("local:nothing", "unknown-model", "no such folder", "ask the operator"),
    Bad("local:PRIVATE/secret", "model-not-allowed", "not in a folder", "CONSILIENCE_MODEL_FOLDERS"),
    Bad("local:PRIVATE/nothing", "model-not-allowed", "not in a folder", "CONSILIENCE_MODEL_FOLDERS"),
    *(Bad(model, "model-not-allowed", "not in a folder", "a link to it does not count") for model in LINKS),
    Bad("local:deleted", "unknown-model", "no such folder", "moved or deleted"),
    Bad("hf:deleted", "unknown-model", "not on this machine", "CONSILIENCE_MODEL_FOLDERS"),
    Bad("timm:vit", "missing-extra", "needs timm", "pip install 'consilience[vision]'", "timm", change={"view": "image"}),
    Bad("st:bert", "missing-extra", "cannot be loaded here: libgomp.so.1", "has to install it again"),
    Bad("hf:cut", "unreadable-file", "cannot be loaded: ", "Its files are damaged"),
    Bad("hf:scramble", "unreadable-file", "cannot be loaded: ", "Its files are damaged"),
    Bad("hf:pickle", "unsupported-format", "are pickles", "Convert them to safetensors", "pytorch_model.bin"),
    Bad("st:pickle", "unsupported-format", "are pickles", "Convert them to safetensors", "pytorch_model.bin"),
    Bad("hf:strip", "unreadable-file", "has no weights", "fetch the model again"),
    Bad("hf:spoil", "non-finite-values", "NaN or infinity of 5 items", "are damaged", "layer 3 of 'short'", None),
    Bad("hf:deepen", "unreadable-file", "lack 16 weights", "damaged", "encoder.layer.3.attention.output.LayerNorm.bias"),
    Bad("hf:widen", "unreadable-file", "of other shapes than its config.json says", "damaged"),
    Bad("hf:bring_code", "unreadable-file", "cannot be loaded", "code of its own, which is never run"),
    Bad("local:forget_config", "unreadable-file", "No such file", "fetch the model's files again", "config.json"),
    Bad("hf:spoil_config", "unreadable-file", "cannot be read", "fetch the model's files again", "config.json"),
    Bad("hf:forget_words", "unreadable-file", "has no tokenizer", "tokenizer.json or vocab.txt", "tokenizer.json"),
    Bad("hf:swap_words", "unreadable-file", "knows 200 tokens", "are another model's", "299", None),
    Bad("hf:bert", "unknown-layer", "no layer '9'", "", "9", "/layers", {"layers": ["9"]}),
    Bad("hf:bert", "invalid-request", "at most 48 tokens", "48 at most", "900", "/max_length", {"max_length": 900}),
    Bad("hf:bert", "invalid-request", "read nothing of a text", "3 at least", "2", "/max_length", {"max_length": 2}),
    Bad("local:bert", "invalid-request", "reads code or text", "", "image", "/view", {"view": "image"}),
)  # fmt: skip


@dataclass
class House:
    """A service and a worker, folders of good and bad models, and datasets of texts and of pictures."""

    server: Server
    client: httpx2.Client
    root: Path
    texts: str = ""
    before: dict[str, Any] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    """Of the wishes in FAILED."""

    def fill(self, text: str) -> str:
        return text.replace("ROOT", str(self.root)).replace("PRIVATE", str(self.root.parent / "private"))

    def wish(self, bad: Bad) -> dict[str, Any]:
        dataset = "scenes:n=4" if bad.change.get("view") == "image" else self.texts
        return {"model": self.fill(bad.model), "dataset": dataset, "view": "text", **bad.change}

    def post(self, bad: Bad) -> httpx2.Response:
        return self.client.post("/v1/embeddings", json=self.wish(bad))

    def finish(self, job_id: str) -> dict[str, Any]:
        def job() -> dict[str, Any]:
            found: dict[str, Any] = self.client.get(f"/v1/jobs/{job_id}").json()
            return found

        wait_for(lambda: job()["status"] in {"failed", "succeeded"}, timeout_s=60)
        return job()

    def kept(self) -> dict[str, Any]:
        """All that a wish could leave behind; jobs and datasets are meant to stay."""
        contents = self.server.contents()
        return {"files": contents["files"], "sets": contents["rows"]["embeddings"]}


def build_models(root: Path) -> None:
    save_bert(root / "bert")
    save_gpt(root / "gpt")
    vit = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
    save_vision(root / "vit", "vit_tiny_patch16_224", **vit)
    for damage in DAMAGES:
        folder = root / damage.__name__
        shutil.copytree(root / "bert", folder)
        damage(folder)
    shutil.copytree(root / "bert", root.parent / "private" / "secret")
    shutil.copytree(root / "bert", root / "deleted")
    (root / "link").symlink_to(root.parent / "private" / "secret")
    (root / "above").symlink_to(root.parent / "private")


@pytest.fixture(scope="module")
def house(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """All of FAILED is wished for before the worker starts; then one of the models is deleted."""
    folder = tmp_path_factory.mktemp("bad")
    root = folder / "models"
    build_models(root)
    site = folder / "site"
    (site / "sentence_transformers").mkdir(parents=True)
    (site / "sitecustomize.py").write_text(MISSING)
    (site / "sentence_transformers" / "__init__.py").write_text(DAMAGED)
    endpoints = {"away": {"url": "http://127.0.0.1:9/v1", "model": "m", "patience_s": 0.2}}
    settings = {
        "queue": "extract",
        "models": "baseline:*,hf:*,st:*,timm:vit*,local:*,endpoint:*",
        "model_folders": root,
        "model_endpoints": json.dumps(endpoints),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("HF_HOME", str(folder / "hub"))
        with (
            running_service(folder / "data", f"{redis_server}?db=7", **settings) as server,
            httpx2.Client(base_url=server.url, timeout=60) as client,
        ):
            house = House(server, client, root)
            stored = client.post("/v1/datasets", content=jsonl(ITEMS), headers={"content-type": "application/jsonl"})
            house.texts = stored.json()["id"]
            assert client.post("/v1/datasets", json={"builtin": "scenes:n=4"}).status_code == 201
            house.before = house.kept()
            for bad in FAILED:
                answer = house.post(bad)
                assert answer.status_code == 202, answer.text
                house.jobs.append(answer.json()["id"])
            shutil.rmtree(root / "deleted")
            with running_beside(server, "workers"):
                yield house


def check(problem: dict[str, Any], bad: Bad, house: House) -> None:
    """The problem says what is wrong, quotes the value and says what to do, and tells nothing of the machine."""
    said, hint = problem["detail"], problem.get("hint") or ""
    assert problem["type"].rsplit("/", 1)[-1] == bad.code, problem
    assert bad.said in said
    assert bad.hint in f"{said} {hint}"
    assert hint or problem.get("limit") is not None or bad.code in {"not-found", "invalid-request"}, problem
    assert problem["value"] == (bad.value or house.fill(bad.model))
    assert problem.get("pointer") == bad.pointer
    assert str(house.root) not in f"{said} {hint}", "the operator's paths are nobody's business"


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: f"{bad.model} {bad.change or ''}")
def test_what_the_service_knows_is_refused_at_once(house: House, bad: Bad) -> None:
    status = {"model-not-allowed": 403, "not-found": 404}.get(bad.code, 422)
    problem = assert_problem(house.post(bad), status, bad.code)
    check(problem, bad, house)


def test_the_same_is_refused_as_a_side(house: House) -> None:
    for bad in REFUSED:
        good = {"model": "hf:bert", "dataset": house.texts, "view": "text"}
        answer = house.client.post("/v1/alignments", json={"a": good, "b": house.wish(bad)})
        check(answer.json(), bad._replace(pointer=f"/b{bad.pointer}"), house)


@pytest.mark.parametrize(
    "number", range(len(FAILED)), ids=lambda number: f"{FAILED[number].model} {FAILED[number].code}"
)
def test_what_a_worker_finds_fails_the_job_with_its_reason(house: House, number: int) -> None:
    job = house.finish(house.jobs[number])
    assert (job["status"], job["result"]) == ("failed", None), job
    check(job["error"], FAILED[number], house)


def test_no_bad_wish_leaves_anything_behind(house: House) -> None:
    for job_id in house.jobs:
        house.finish(job_id)
    assert house.kept() == house.before


def test_a_side_that_fails_is_said_to_be_the_one(house: House) -> None:
    good = {"model": "baseline:random?dim=4", "dataset": house.texts, "view": "code"}
    bad = next(each for each in FAILED if each.model == "hf:cut")
    answer = house.client.post("/v1/alignments", json={"a": good, "b": house.wish(bad), "metrics": ["cka"]})
    check(house.finish(answer.json()["id"])["error"], bad._replace(pointer="/b/model"), house)


def test_texts_that_are_too_long_are_cut_and_every_answer_says_so(house: House) -> None:
    wish = {"model": "hf:bert", "dataset": house.texts, "view": "text", "max_length": 10}
    made, found = (
        house.finish(house.client.post("/v1/embeddings", json=wish).json()["id"])["result"] for _ in range(2)
    )
    said = "1 of 5 items were longer than the 10 tokens that are read, and cut."
    assert (made["cache"], made["record"]["truncated"], made["record"]["max_length"]) == ("miss", 1, 10)
    assert (found["cache"], found["warnings"], made["warnings"]) == ("hit", [said], [said])
    sides = {"a": wish, "b": {"model": "baseline:random?dim=4", "dataset": house.texts, "view": "text"}}
    scores = house.finish(house.client.post("/v1/alignments", json={**sides, "metrics": ["cka"]}).json()["id"])
    assert f"Side a: {said}" in scores["result"]["warnings"]


ALBUM = album()
PICTURE = next(name for name in ALBUM if name.endswith(".png"))
CUT = ALBUM[PICTURE][:-30]


class BadFile(NamedTuple):
    """A dataset that is refused, and what must be said of it."""

    data: bytes
    said: str
    value: str
    media_type: str = "application/jsonl"


BAD_FILES = {
    "duplicate ids": BadFile(jsonl([*ITEMS, ITEMS[1]]), "Items 1 and 5 have the same id: 'long'.", "long"),
    "an empty text": BadFile(jsonl([{**ITEMS[0], "text": ""}]), "Item 'short': its `text` is empty.", ""),
    "a blank text": BadFile(jsonl([{**ITEMS[0], "text": " \n"}]), "Item 'short': its `text` is empty.", " \n"),
    "a missing text": BadFile(jsonl([*ITEMS, {"id": "six", "text": "a"}]), "its `code` is missing.", "six"),
    "no picture": BadFile(
        tarred({**ALBUM, PICTURE: b"\x89PNG" + bytes(90)}), "is no picture", "p0", "application/x-tar"
    ),
    "a cut picture": BadFile(tarred({**ALBUM, PICTURE: CUT}), "cannot be decoded", "p0", "application/x-tar"),
}


@pytest.mark.parametrize("bad", BAD_FILES.values(), ids=BAD_FILES)
def test_a_dataset_that_cannot_be_embedded_is_not_kept(house: House, bad: BadFile) -> None:
    before = house.kept()
    answer = house.client.post("/v1/datasets", content=bad.data, headers={"content-type": bad.media_type})
    problem = assert_problem(answer, 422, "bad-item", value=bad.value)
    assert bad.said in problem["detail"]
    assert problem["hint"]
    assert house.kept() == before


def test_a_library_that_the_service_lacks_is_named(house: House) -> None:
    headers = {"content-type": "application/vnd.apache.parquet"}
    answer = house.client.post("/v1/datasets", content=table({"text": ["a"]}), headers=headers)
    problem = assert_problem(answer, 501, "missing-extra", value="pyarrow")
    assert "pip install 'consilience[parquet]'" in problem["hint"]
