"""`/docs`: the OpenAPI document as a page to read.

It has no scripts and nothing from elsewhere: it works without a network, and there is nothing in it that could be attacked.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f4f4f4; border-radius: 4px; }
code { padding: 0 .3em; } pre { padding: .8em; overflow-x: auto; }
details { border: 1px solid #ddd; border-radius: 6px; margin: .5rem 0; padding: .5rem 1rem; }
summary { cursor: pointer; } summary b { display: inline-block; min-width: 4.5em; }
table { border-collapse: collapse; width: 100%; } td { border-top: 1px solid #eee; padding: .3em .5em; vertical-align: top; }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #e6e6e6; } code, pre { background: #262626; }
  details, td { border-color: #333; } a { color: #8ab4f8; }
}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Json = Mapping[str, Any]


def add_pages(app: FastAPI) -> None:
    """Serve the page of the document of `app`."""

    async def get_page(_: Request) -> HTMLResponse:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return HTMLResponse(render_page(app.openapi()), headers=headers)

    app.router.add_route("/docs", get_page, include_in_schema=False)


def render_page(document: Json) -> str:
    """The whole page."""
    info = document["info"]
    operations = [
        _operation(method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>',
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        *(f"<p>{_text(line)}</p>" for line in info["description"].split("\n") if line),
        '<p>For programs: <a href="/openapi.json">/openapi.json</a>.</p>',
        *operations,
        "<h2>Schemas</h2>",
        *(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
        "</html>\n",
    ]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Json) -> str:
    parts = [
        f'<details id="{escape(operation["operationId"])}">',
        f"<summary><b>{method}</b> <code>{escape(path)}</code> {escape(operation['summary'])}</summary>",
        f"<p>{_text(operation['description'])}</p>",
        _table("Parameters", map(_parameter, operation.get("parameters", ()))),
        *_bodies(operation.get("requestBody", {})),
        _table("Answers", map(_answer, operation["responses"].items())),
        "</details>",
    ]
    return "\n".join(filter(None, parts))


def _parameter(parameter: Json) -> tuple[str, str, str]:
    schema = parameter["schema"]
    default = f", default {_code(json.dumps(schema['default']))}" if schema.get("default") is not None else ""
    kind = f"{parameter['in']}{', required' if parameter['required'] else ''}{default}"
    return _code(parameter["name"]), kind, _text(parameter.get("description", ""))


def _bodies(body: Json) -> Iterator[str]:
    content = body.get("content", {})
    if not content:
        return
    yield "<h4>Bodies</h4><p>" + ", ".join(map(_code, content)) + "</p>"
    for example in (each for media in content.values() for each in media.get("examples", {}).values()):
        yield f"<p>{escape(example['summary'])}:</p><pre>{escape(json.dumps(example['value']))}</pre>"


def _answer(answer: tuple[str, Json]) -> tuple[str, str, str]:
    status, response = answer
    return _code(status), _text(response["description"]), " ".join(_shapes(response.get("content", {})))


def _shapes(content: Json) -> Iterator[str]:
    for media_type, media in content.items():
        name = media.get("schema", {}).get("$ref", "").rpartition("/")[2]
        yield f'{_code(media_type)} <a href="#{escape(name)}">{escape(name)}</a>' if name else _code(media_type)


def _schema(name: str, schema: Json) -> str:
    body = escape(json.dumps(schema, indent=2, ensure_ascii=False))
    return f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{body}</pre></details>'


def _table(title: str, rows: Iterator[tuple[str, ...]]) -> str:
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return f"<h4>{title}</h4><table>{''.join(lines)}</table>" if lines else ""


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _text(text: str) -> str:
    """Prose in which `words` between backticks are code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))
