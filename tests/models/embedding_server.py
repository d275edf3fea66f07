"""A real server of embeddings with OpenAI's API, which serves a model and can be told to misbehave."""

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


class Question(BaseModel):
    model: str
    input: list[str]
    encoding_format: Literal["float"] = "float"


@dataclass
class Manners:
    """How the server behaves: what it does to each request in turn, then it behaves well."""

    faults: list[Callable[[list[dict[str, Any]]], Response | None]] = field(default_factory=list)
    longest: int = 10_000
    """Characters of a text."""
    batch: int = 64
    questions: list[list[str]] = field(default_factory=list)


def make_app(name: str, embed_texts: Embed, manners: Manners) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/embeddings")
    def embed(question: Question, authorization: Annotated[str, Header()] = "") -> Any:
        manners.questions.append(question.input)
        if authorization != f"Bearer {KEY}":
            raise HTTPException(401, "no key")
        if question.model != name:
            return JSONResponse({"error": {"message": f"no model {question.model}", "type": "not_found"}}, 404)
        if len(question.input) > manners.batch:
            raise HTTPException(413, f"at most {manners.batch} texts")
        if max(map(len, question.input)) > manners.longest:
            return JSONResponse({"error": {"message": "a text is too long"}}, 400)
        rows = embed_texts(question.input).tolist()
        data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
        answer = manners.faults.pop(0)(data) if manners.faults else None
        return answer or {"object": "list", "data": data, "model": name, "usage": {"total_tokens": 0}}

    return app


def later(status: int, **headers: str) -> Callable[[list[dict[str, Any]]], Response]:
    return lambda _: JSONResponse({"error": {"message": "not now"}}, status, {**headers})


def fine(data: list[dict[str, Any]]) -> None:
    """No fault in this turn."""


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The URL at which a real uvicorn serves the app, in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()
