"""Downloads from a hub: a real server that responds like the hub, for one model."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "acme/tiny"
OPEN = """
import sys
from consilience.models.registry import open_model
from consilience.models.rules import ModelRules
from consilience.errors import ConsilienceError

try:
    print(open_model(sys.argv[1], ModelRules(allowed=("hf:acme/*",), downloads=sys.argv[2] == "fetch")).record.revision)
except ConsilienceError as error:
    print(error.code)
"""


def answer(path: str, files: dict[str, bytes], fetched: list[str]) -> bytes | None:
    """Return the hub's response to a path and note the requested files."""
    prefix = f"/{NAME}/resolve/{COMMIT}/"
    if path.startswith(f"/api/models/{NAME}/revision/"):
        return json.dumps({"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}).encode()
    if path == f"/api/models/{NAME}/tree/{COMMIT}":
        return json.dumps(
            [{"type": "file", "path": name, "oid": "", "size": len(files[name])} for name in files]
        ).encode()
    if path.startswith(prefix):
        fetched.append(path.removeprefix(prefix))
        return files.get(path.removeprefix(prefix))
    return None


@pytest.fixture
def hub(folders: Path) -> Iterator[tuple[str, list[str]]]:
    """The hub's address, and the files that were downloaded from it."""
    files = {file.name: file.read_bytes() for file in (folders / "tiny-bert").iterdir()}
    files |= {"pytorch_model.bin": b"a pickle", "modeling.py": b"raise SystemExit"}
    fetched: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = answer(self.path.partition("?")[0], files, fetched)
            self.send_response(404 if content is None else 200)
            self.send_header(*(("x-error-code", "RepoNotFound") if content is None else ("x-repo-commit", COMMIT)))
            self.send_header("content-length", str(len(content or b"")))
            self.send_header("etag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET  # noqa: N815 - the base class names it

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", fetched
        server.shutdown()


def test_an_allowed_model_is_downloaded_once_without_pickles_and_code(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, fetched = hub

    def run(identifier: str, how: str, **variables: str) -> str:
        own = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        ran = subprocess.run(
            [sys.executable, "-c", OPEN, identifier, how],
            env=os.environ | own | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return ran.stdout.strip()

    assert run(f"hf:{NAME}", "stay") == "unknown-model"
    assert run(f"hf:{NAME}", "fetch", HF_HUB_OFFLINE="1") == "unknown-model"
    assert run("hf:other/tiny", "fetch") == "model-not-allowed"
    assert fetched == []
    assert run("hf:acme/other", "fetch") == "unknown-model"
    assert run(f"hf:{NAME}", "fetch") == COMMIT
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(fetched)
    assert not {"pytorch_model.bin", "modeling.py"} & set(fetched)
    assert run(f"hf:{NAME}", "stay") == COMMIT
