"""Page `/docs`: Swagger UI for the OpenAPI document.

Every file comes from this service: Swagger UI's own from the package fastapi-offline, the rest from `service/static`.
The policy allows no inline script or style, so the page holds neither.
"""

from html import escape
from os import PathLike, stat_result
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

PATH = "/docs"
STATIC_PATH = "/docs/static/"
STATIC_FOLDER = Path(__file__).parents[1] / "static"
#: Swagger UI's style sheet draws its icons from `data:` images.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title} API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{static}swagger-ui.css">
<script src="{static}swagger-ui-bundle.js" defer></script>
<script src="{static}docs.js" defer></script>
</head>
<body>
<noscript><p>This page needs JavaScript. Programs read <a href="/openapi.json">/openapi.json</a>.</p></noscript>
<main id="swagger-ui"></main>
</body>
</html>
"""


class DocumentationFiles(StaticFiles):
    """Static files that a browser may keep, but checks with the service before each use."""

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return the file, or 304 if the browser has its current version."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


def add_pages(app: FastAPI) -> None:
    """Serve the documentation page of `app` and the files that it loads."""
    page = PAGE.format(title=escape(app.title), static=STATIC_PATH)

    async def get_page(_: Request) -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})

    app.router.add_route(PATH, get_page, include_in_schema=False)
    files = DocumentationFiles(directory=STATIC_FOLDER, packages=[("fastapi_offline", "static")])
    app.mount(STATIC_PATH.rstrip("/"), files)
