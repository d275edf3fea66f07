"""Additions to the OpenAPI document that FastAPI generates."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from consilience.contract.alignments import AlignmentRequest, FormOptions
from consilience.contract.datasets import BuiltinRequest
from consilience.contract.maps import MapRequest, TranslationRequest
from consilience.contract.problems import Problem
from consilience.contract.references import ReferenceRequest
from consilience.contract.studies import StudyAdditions, StudyRequest
from consilience.contract.upgrades import UpgradeRequest
from consilience.errors import (
    Forbidden,
    InvalidRequest,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    WrongHost,
    WrongOrigin,
)
from service.middleware.auth import OPEN_PATHS
from service.openapi.examples import PROBLEM
from service.problems import error_responses, problem_examples

SECURITY_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "API key `csl_...`, created with `consilience keys create`. "
    "GET requests need the scope `read`, all others `write`.",
}
#: Groups of operations, in the order of the document.
TAGS = [
    {"name": name, "description": description}
    for name, description in {
        "embeddings": "Upload, compute and manage embedding sets.",
        "datasets": "Upload, generate and manage the datasets that models embed.",
        "references": "Manage reference sets: fixed lists of embedding sets that new models are compared with.",
        "alignments": "Score how far two embedding sets agree.",
        "studies": "Score many embedding sets at once and test trends over them.",
        "maps": "Fit maps between embedding spaces and translate vectors with them.",
        "upgrades": "Evaluate a change of the embedding model of a search index.",
        "jobs": "Poll, follow and cancel jobs.",
        "service": "List metrics, formats and limits.",
        "health": "Check and monitor the service.",
    }.items()
]
#: Schemas of FastAPI's own error format, which the service does not use.
UNUSED_SCHEMAS = ("HTTPValidationError", "ValidationError")

#: Bodies that routes read themselves.
BODIES = (
    AlignmentRequest,
    BuiltinRequest,
    FormOptions,
    MapRequest,
    StudyAdditions,
    ReferenceRequest,
    StudyRequest,
    TranslationRequest,
    UpgradeRequest,
)
#: Errors that the authentication middleware can raise.
MIDDLEWARE_ERRORS = (Unauthenticated, Forbidden, WrongOrigin, WrongHost, TooManyRequests, Unavailable)


def extend_openapi(app: FastAPI) -> None:
    """Add bodies that routes read themselves, problems and security to the OpenAPI document of `app`."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _add_schemas(generate())
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _add_schemas(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    _, requests = models_json_schema(
        [(model, "validation") for model in BODIES], ref_template="#/components/schemas/{model}"
    )
    schemas.update(requests["$defs"])
    # In a response, fields with a default can be absent.
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = {**problem, "examples": [PROBLEM]}
    for path in document["paths"].values():
        for operation in path.values():
            _drop_default_error(operation)
            _drop_null(operation)
    for path, operations in document["paths"].items():
        if path not in OPEN_PATHS:
            for operation in operations.values():
                _add_keys(operation)
    document["components"]["examples"] = problem_examples()
    document["components"]["securitySchemes"] = {"ApiKey": SECURITY_SCHEME}
    for name in UNUSED_SCHEMAS:
        schemas.pop(name, None)
    document["components"]["schemas"] = dict(sorted(schemas.items()))


def _add_keys(operation: dict[str, Any]) -> None:
    """Add the security scheme and the errors of authentication. A service without keys needs none."""
    operation["security"] = [{"ApiKey": []}, {}]
    for status, response in error_responses(*MIDDLEWARE_ERRORS).items():
        operation["responses"].setdefault(str(status), response)


def _drop_default_error(operation: dict[str, Any]) -> None:
    """Replace FastAPI's own 422: an invalid path parameter is a 404, any other a problem document."""
    responses = operation["responses"]
    if "application/json" not in responses.get("422", {}).get("content", {}):
        return
    del responses["422"]
    if any(parameter["in"] != "path" for parameter in operation["parameters"]):
        responses.update({str(status): response for status, response in error_responses(InvalidRequest).items()})


def _drop_null(operation: dict[str, Any]) -> None:
    """Remove null from the schemas of optional parameters: `limit=null` would be the text "null"."""
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del schema["anyOf"]
            schema.update(kinds[0])
