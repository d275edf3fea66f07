"""A real embedding server with OpenAI's API, which serves a model and fails on demand."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

KEY = "sk-of-a-test"
#: A row for each text.
Embed = Callable[[Sequence[str]], np.ndarray[Any, Any]]


class EmbeddingRequest(BaseModel):
    model: str
    input: list[str]
    encoding_format: Literal["float"] = "float"


@dataclass
class ServerBehaviour:
    """Behaviour of the server: a fault for each of the first requests, none for later ones."""

    faults: list[Callable[[list[dict[str, Any]]], Response | None]] = field(default_factory=list)
    longest: int = 10_000
    """Largest number of characters of a text."""
    batch: int = 64
    requests: list[list[str]] = field(default_factory=list)


def make_app(name: str, embed_texts: Embed, behaviour: ServerBehaviour) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/embeddings")
    def embed(request: EmbeddingRequest, authorization: Annotated[str, Header()] = "") -> Any:
        behaviour.requests.append(request.input)
        if authorization != f"Bearer {KEY}":
            raise HTTPException(401, "no key")
        if request.model != name:
            return JSONResponse({"error": {"message": f"no model {request.model}", "type": "not_found"}}, 404)
        if len(request.input) > behaviour.batch:
            raise HTTPException(413, f"at most {behaviour.batch} texts")
        if max(map(len, request.input)) > behaviour.longest:
            return JSONResponse({"error": {"message": "a text is too long"}}, 400)
        rows = embed_texts(request.input).tolist()
        data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
        answer = behaviour.faults.pop(0)(data) if behaviour.faults else None
        return answer or {"object": "list", "data": data, "model": name, "usage": {"total_tokens": 0}}

    return app


def error_response(status: int, **headers: str) -> Callable[[list[dict[str, Any]]], Response]:
    return lambda _: JSONResponse({"error": {"message": "not now"}}, status, {**headers})


def no_fault(data: list[dict[str, Any]]) -> None:
    """Apply no fault to this request."""


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve the app with a real uvicorn in a thread; yields the URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()
