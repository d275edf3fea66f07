"""Requests for sets that cannot be fulfilled, over HTTP: the problem has the value and the remedy, and nothing is stored."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.formats.items.item_files import image_archive, jsonl, table, tarred
from tests.models.conftest import save_bert, save_gpt, save_vision
from tests.service.servers import Server, assert_problem, running_beside, running_service
from tests.workers.harness import wait_for

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
    """Write complete weights with NaN in the last block."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / WEIGHTS)
    weights["encoder.layer.2.output.dense.weight"][:] = float("nan")
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def deepen(folder: Path) -> None:
    configure(folder, num_hidden_layers=4)


def widen(folder: Path) -> None:
    configure(folder, hidden_size=64)


def add_code(folder: Path) -> None:
    configure(folder, model_type="own", auto_map={"AutoModel": "modeling_own.Own"})


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def damage_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def remove_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def swap_tokenizer(folder: Path) -> None:
    """Copy the tokenizer of another model, which has more tokens."""
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
    add_code,
    remove_config,
    damage_config,
    remove_tokenizer,
    swap_tokenizer,
)


class BadRequest(NamedTuple):
    """A bad request (its model, and its differences from the usual one) and the expected problem."""

    model: str
    code: str
    message: str
    hint: str
    value: str | None = None
    """None: the model."""
    pointer: str | None = "/model"
    change: dict[str, Any] = {}  # noqa: RUF012 - a default of a tuple, which nobody changes


#: Requests that the service itself refuses. ROOT and PRIVATE are the operator's folder and one next to it.
REFUSED = (
    BadRequest("bert", "invalid-request", "is not of the form KIND:NAME", "Use one of the kinds hf, st, timm"),
    BadRequest("onnx:bert", "invalid-request", "There is no model kind 'onnx'", "Use one of the kinds hf, st, timm"),
    BadRequest("hf:../private/secret", "invalid-request", "after hf: it must have", "a name such as"),
    BadRequest("local:../private/secret", "invalid-request", "after local: it must have", "a path without the parts"),
    BadRequest(
        "local:ROOT/../private/secret",
        "invalid-request",
        "after local: it must have",
        "a path without the parts",
    ),
    BadRequest("timm:resnet18", "model-not-allowed", "does not allow the model timm:resnet18", "ask the operator"),
    BadRequest("hf:bert", "unknown-view", "no view 'sound'", "text, code", "sound", "/view", {"view": "sound"}),
    BadRequest(
        "hf:bert", "not-found", "no such dataset", "", f"ds_{'0' * 32}", "/dataset", {"dataset": f"ds_{'0' * 32}"}
    ),
    BadRequest("hf:bert", "invalid-request", "", "", "0", "/max_length", {"max_length": 0}),
    BadRequest(
        "st:bert",
        "invalid-request",
        "does not support the pooling 'cls'; allowed: auto",
        "",
        "cls",
        "/pooling",
        {"pooling": "cls"},
    ),
)
#: Models behind a link to outside the operator's folder.
LINKS = ("local:link", "local:ROOT/link", "local:above/secret", "hf:link", "hf:above/secret")
OUTSIDE = "is not in one of the operator's model folders"
#: Requests whose error only a worker can find.
FAILED = (
    BadRequest("hf:acme/nothing", "unknown-model", "not installed on this machine", "CONSILIENCE_MODEL_FOLDERS"),
    BadRequest("hf:bert@v2", "unknown-model", "not installed on this machine", "CONSILIENCE_MODEL_FOLDERS"),
    BadRequest("hf:acme/a--b", "unknown-model", "'acme/a--b' is not a valid name", "for typing errors"),
    BadRequest("endpoint:none", "unknown-model", "no endpoint 'none'", "CONSILIENCE_MODEL_ENDPOINTS"),
    BadRequest("endpoint:away", "endpoint-failed", "does not respond", "ask the operator"),
    BadRequest("local:nothing", "unknown-model", "is not among the operator's models", "ask the operator"),
    BadRequest("local:PRIVATE/secret", "model-not-allowed", OUTSIDE, "CONSILIENCE_MODEL_FOLDERS"),
    BadRequest("local:PRIVATE/nothing", "model-not-allowed", OUTSIDE, "CONSILIENCE_MODEL_FOLDERS"),
    *(BadRequest(model, "model-not-allowed", OUTSIDE, "a link to it is not enough") for model in LINKS),
    BadRequest("local:deleted", "unknown-model", "is not among the operator's models", "moved or deleted"),
    BadRequest("hf:deleted", "unknown-model", "not installed on this machine", "CONSILIENCE_MODEL_FOLDERS"),
    BadRequest(
        "timm:vit", "missing-extra", "needs timm", "pip install 'consilience[vision]'", "timm", change={"view": "image"}
    ),
    BadRequest("st:bert", "missing-extra", "cannot be imported: libgomp.so.1", "to install it again"),
    BadRequest("hf:cut", "unreadable-file", "cannot be loaded: ", "The model's files are damaged"),
    BadRequest("hf:scramble", "unreadable-file", "cannot be loaded: ", "The model's files are damaged"),
    BadRequest("hf:pickle", "unsupported-format", "are pickles", "Convert the weights to safetensors", "pytorch_model.bin"),
    BadRequest("st:pickle", "unsupported-format", "are pickles", "Convert the weights to safetensors", "pytorch_model.bin"),
    BadRequest("hf:strip", "unreadable-file", "has no weights", "Download the model again"),
    BadRequest("hf:spoil", "non-finite-values", "NaN or infinity for 5 items", "are damaged", "layer 3 of 'short'", None),
    BadRequest("hf:deepen", "unreadable-file", "lack 16 weights", "damaged", "encoder.layer.3.attention.output.LayerNorm.bias"),
    BadRequest("hf:widen", "unreadable-file", "other shapes than its config.json declares", "damaged"),
    BadRequest("hf:add_code", "unreadable-file", "cannot be loaded", "its own code, which is never run"),
    BadRequest("local:remove_config", "unreadable-file", "No such file", "download the model again", "config.json"),
    BadRequest("hf:damage_config", "unreadable-file", "cannot be read", "download the model again", "config.json"),
    BadRequest(
        "hf:remove_tokenizer", "unreadable-file", "has no tokenizer files", "tokenizer.json or vocab.txt", "tokenizer.json"
    ),
    BadRequest("hf:swap_tokenizer", "unreadable-file", "has only 200 tokens", "belong to another model", "299", None),
    BadRequest("hf:bert", "unknown-layer", "no layer '9'", "", "9", "/layers", {"layers": ["9"]}),
    BadRequest("hf:bert", "invalid-request", "at most 48 tokens", "at most 48", "900", "/max_length", {"max_length": 900}),
    BadRequest("hf:bert", "invalid-request", "leaves no token for text", "at least 3", "2", "/max_length", {"max_length": 2}),
    BadRequest("local:bert", "invalid-request", "reads code or text", "", "image", "/view", {"view": "image"}),
)  # fmt: skip


@dataclass
class ServiceSetup:
    """A service and a worker, folders of good and bad models, and datasets of texts and of images."""

    server: Server
    client: httpx2.Client
    root: Path
    texts: str = ""
    before: dict[str, Any] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    """Jobs of the requests in FAILED."""

    def fill(self, text: str) -> str:
        return text.replace("ROOT", str(self.root)).replace("PRIVATE", str(self.root.parent / "private"))

    def body(self, bad: BadRequest) -> dict[str, Any]:
        dataset = "scenes:n=4" if bad.change.get("view") == "image" else self.texts
        return {"model": self.fill(bad.model), "dataset": dataset, "view": "text", **bad.change}

    def post(self, bad: BadRequest) -> httpx2.Response:
        return self.client.post("/v1/embeddings", json=self.body(bad))

    def finish(self, job_id: str) -> dict[str, Any]:
        def job() -> dict[str, Any]:
            found: dict[str, Any] = self.client.get(f"/v1/jobs/{job_id}").json()
            return found

        wait_for(lambda: job()["status"] in {"failed", "succeeded"}, timeout_s=60)
        return job()

    def stored(self) -> dict[str, Any]:
        """Return all that a request could leave behind; jobs and datasets are meant to stay."""
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
def service(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceSetup]:
    """Send all requests of FAILED before the worker starts, then delete one of the models."""
    folder = tmp_path_factory.mktemp("bad")
    root = folder / "models"
    build_models(root)
    site = folder / "site"
    (site / "sentence_transformers").mkdir(parents=True)
    (site / "sitecustomize.py").write_text(MISSING)
    (site / "sentence_transformers" / "__init__.py").write_text(DAMAGED)
    endpoints = {"away": {"url": "http://127.0.0.1:9/v1", "model": "m", "retry_timeout_s": 0.2}}
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
            service = ServiceSetup(server, client, root)
            stored = client.post("/v1/datasets", content=jsonl(ITEMS), headers={"content-type": "application/jsonl"})
            service.texts = stored.json()["id"]
            assert client.post("/v1/datasets", json={"builtin": "scenes:n=4"}).status_code == 201
            service.before = service.stored()
            for bad in FAILED:
                answer = service.post(bad)
                assert answer.status_code == 202, answer.text
                service.jobs.append(answer.json()["id"])
            shutil.rmtree(root / "deleted")
            with running_beside(server, "workers"):
                yield service


def check(problem: dict[str, Any], bad: BadRequest, service: ServiceSetup) -> None:
    """Check the problem's code, message, hint, value and pointer, and that it reveals no path of the machine."""
    message, hint = problem["detail"], problem.get("hint") or ""
    assert problem["type"].rsplit("/", 1)[-1] == bad.code, problem
    assert bad.message in message
    assert bad.hint in f"{message} {hint}"
    assert hint or problem.get("limit") is not None or bad.code in {"not-found", "invalid-request"}, problem
    assert problem["value"] == (bad.value or service.fill(bad.model))
    assert problem.get("pointer") == bad.pointer
    assert str(service.root) not in f"{message} {hint}", "the operator's paths are nobody's business"


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: f"{bad.model} {bad.change or ''}")
def test_a_request_that_the_service_can_judge_is_refused_at_once(service: ServiceSetup, bad: BadRequest) -> None:
    status = {"model-not-allowed": 403, "not-found": 404}.get(bad.code, 422)
    problem = assert_problem(service.post(bad), status, bad.code)
    check(problem, bad, service)


def test_the_same_request_is_refused_as_a_side(service: ServiceSetup) -> None:
    for bad in REFUSED:
        good = {"model": "hf:bert", "dataset": service.texts, "view": "text"}
        answer = service.client.post("/v1/alignments", json={"a": good, "b": service.body(bad)})
        check(answer.json(), bad._replace(pointer=f"/b{bad.pointer}"), service)


@pytest.mark.parametrize(
    "number", range(len(FAILED)), ids=lambda number: f"{FAILED[number].model} {FAILED[number].code}"
)
def test_an_error_found_by_a_worker_fails_the_job_with_the_reason(service: ServiceSetup, number: int) -> None:
    job = service.finish(service.jobs[number])
    assert (job["status"], job["result"]) == ("failed", None), job
    check(job["error"], FAILED[number], service)


def test_no_bad_request_leaves_anything_behind(service: ServiceSetup) -> None:
    for job_id in service.jobs:
        service.finish(job_id)
    assert service.stored() == service.before


def test_the_error_names_the_side_that_fails(service: ServiceSetup) -> None:
    good = {"model": "baseline:random?dim=4", "dataset": service.texts, "view": "code"}
    bad = next(each for each in FAILED if each.model == "hf:cut")
    answer = service.client.post("/v1/alignments", json={"a": good, "b": service.body(bad), "metrics": ["cka"]})
    check(service.finish(answer.json()["id"])["error"], bad._replace(pointer="/b/model"), service)


def test_truncated_texts_are_reported_in_every_result(service: ServiceSetup) -> None:
    request = {"model": "hf:bert", "dataset": service.texts, "view": "text", "max_length": 10}
    made, found = (
        service.finish(service.client.post("/v1/embeddings", json=request).json()["id"])["result"] for _ in range(2)
    )
    message = "1 of 5 items were longer than 10 tokens and were truncated."
    assert (made["cache"], made["record"]["truncated"], made["record"]["max_length"]) == ("miss", 1, 10)
    assert (found["cache"], found["warnings"], made["warnings"]) == ("hit", [message], [message])
    sides = {"a": request, "b": {"model": "baseline:random?dim=4", "dataset": service.texts, "view": "text"}}
    scores = service.finish(service.client.post("/v1/alignments", json={**sides, "metrics": ["cka"]}).json()["id"])
    assert f"Side a: {message}" in scores["result"]["warnings"]


ARCHIVE = image_archive()
IMAGE = next(name for name in ARCHIVE if name.endswith(".png"))
CUT = ARCHIVE[IMAGE][:-30]


class BadFile(NamedTuple):
    """A dataset that is refused, and the expected problem."""

    data: bytes
    message: str
    value: str
    media_type: str = "application/jsonl"


BAD_FILES = {
    "duplicate ids": BadFile(jsonl([*ITEMS, ITEMS[1]]), "Items 1 and 5 have the same id: 'long'.", "long"),
    "an empty text": BadFile(jsonl([{**ITEMS[0], "text": ""}]), "The view `text` of item 'short' is empty.", ""),
    "a blank text": BadFile(jsonl([{**ITEMS[0], "text": " \n"}]), "The view `text` of item 'short' is empty.", " \n"),
    "a missing text": BadFile(
        jsonl([*ITEMS, {"id": "six", "text": "a"}]), "The view `code` of item 'six' is missing.", "six"
    ),
    "no image": BadFile(
        tarred({**ARCHIVE, IMAGE: b"\x89PNG" + bytes(90)}),
        "is not an image in a supported format",
        "p0",
        "application/x-tar",
    ),
    "a truncated image": BadFile(tarred({**ARCHIVE, IMAGE: CUT}), "cannot be decoded", "p0", "application/x-tar"),
}


@pytest.mark.parametrize("bad", BAD_FILES.values(), ids=BAD_FILES)
def test_a_dataset_that_cannot_be_embedded_is_not_stored(service: ServiceSetup, bad: BadFile) -> None:
    before = service.stored()
    answer = service.client.post("/v1/datasets", content=bad.data, headers={"content-type": bad.media_type})
    problem = assert_problem(answer, 422, "bad-item", value=bad.value)
    assert bad.message in problem["detail"]
    assert problem["hint"]
    assert service.stored() == before


def test_a_library_missing_in_the_service_is_named(service: ServiceSetup) -> None:
    headers = {"content-type": "application/vnd.apache.parquet"}
    answer = service.client.post("/v1/datasets", content=table({"text": ["a"]}), headers=headers)
    problem = assert_problem(answer, 501, "missing-extra", value="pyarrow")
    assert "pip install 'consilience[parquet]'" in problem["hint"]
