"""Request bodies in the OpenAPI document, with examples. A test sends each example to a real server."""

from typing import Any

from consilience.contract.base import LABEL_LENGTH
from consilience.contract.problems import Problem

#: Placeholder for the id of a stored set.
EXAMPLE_ID = "emb_0123456789abcdef0123456789abcdef"
#: Placeholder for the id of a reference set.
EXAMPLE_REFERENCE_ID = "ref_0123456789abcdef0123456789abcdef"

#: Twelve points on a circle, and the same points rotated by a right angle: every score is 1 up to rounding.
CIRCLE = [
    [1.0, 0.0], [0.87, 0.5], [0.5, 0.87], [0.0, 1.0], [-0.5, 0.87], [-0.87, 0.5],
    [-1.0, 0.0], [-0.87, -0.5], [-0.5, -0.87], [0.0, -1.0], [0.5, -0.87], [0.87, -0.5],
]  # fmt: skip
TURNED = [[-y, x] for x, y in CIRCLE]
#: Names for the twelve points.
HOURS = [f"{hour} o'clock" for hour in (3, 2, 1, 12, 11, 10, 9, 8, 7, 6, 5, 4)]

FILE: dict[str, Any] = {"type": "string", "format": "binary"}
TEXT: dict[str, Any] = {"type": "string"}
OBJECT: dict[str, Any] = {"type": "object"}
BINARY: dict[str, Any] = {"schema": FILE}
NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
LABELS: dict[str, Any] = {
    "type": "array",
    "items": {"anyOf": [{"type": "string", "minLength": 1, "maxLength": LABEL_LENGTH}, {"type": "integer"}]},
}
JSON_PART = {"contentType": "application/json"}
FILE_PART = {"contentType": "application/octet-stream"}
STORED = {"embedding": EXAMPLE_ID}


def refer(model: str) -> dict[str, Any]:
    """Return a reference to the schema of a model."""
    return {"$ref": f"#/components/schemas/{model}"}


def show(schema: dict[str, Any], **examples: tuple[str, object]) -> dict[str, Any]:
    """Return a schema with its examples, each with a summary, by name."""
    shown = {name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()}
    return {"schema": schema, "examples": shown} if shown else {"schema": schema}


def part(schema: dict[str, Any], description: str, example: object = None) -> dict[str, Any]:
    """Return the schema of a part of a form with a description and, for JSON, an example."""
    return {**schema, "description": description} | ({} if example is None else {"examples": [example]})


def form(required: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a form with a required file and optional parts."""
    encoding = {name: _encoding(schema) for name, schema in properties.items()}
    return {
        "schema": {"type": "object", "required": [required], "properties": properties},
        "encoding": {name: found for name, found in encoding.items() if found is not None},
    }


def _encoding(schema: dict[str, Any]) -> dict[str, str] | None:
    """Return the encoding of a part, or None for text."""
    if schema.get("type") != "string":
        return JSON_PART
    return FILE_PART if "format" in schema else None


def require(content: dict[str, Any]) -> dict[str, Any]:
    """Return a required request body, by media type."""
    return {"required": True, "content": content}


def require_json(schema: dict[str, Any], **examples: tuple[str, object]) -> dict[str, Any]:
    """Return a required JSON request body."""
    return require({"application/json": show(schema, **examples)})


NAME_PART = part(TEXT, "Label of the resource.")
METADATA_PART = part(OBJECT, "Your own JSON object, at most 8 KB.", {"source": "upload"})

UPLOAD_BODY = require(
    {
        "application/json": show(
            {
                "type": "object",
                "required": ["vectors"],
                "properties": {"vectors": NUMBERS, "ids": LABELS, "groups": LABELS},
            },
            vectors=("Twelve vectors with two dimensions", {"vectors": CIRCLE}),
            ids=("The same vectors with item ids", {"vectors": CIRCLE, "ids": HOURS}),
        ),
        "application/x-npy": BINARY,
        "application/x-npz": BINARY,
        "application/x-safetensors": BINARY,
        "application/vnd.apache.parquet": BINARY,
        "application/vnd.apache.arrow.file": BINARY,
        "application/vnd.apache.arrow.stream": BINARY,
        "application/octet-stream": BINARY,
        "multipart/form-data": form(
            "file",
            {
                "file": part(FILE, "File with the vectors."),
                "name": NAME_PART,
                "metadata": METADATA_PART,
                "ids": part(LABELS, "Item ids, one for each row."),
                "groups": part(LABELS, "Group labels, one for each row."),
            },
        ),
    }
)

#: Three items with two views.
LINES = """{"id": "add", "text": "The sum of two numbers.", "code": "return a + b"}
{"id": "neg", "text": "The opposite of a number.", "code": "return -a"}
{"id": "one", "text": "The number one.", "code": "return 1"}
"""
JSON_LINES = show(TEXT, lines=("Three items with two views", LINES))
DATASET_BODY = require(
    {
        "application/json": show(
            refer("BuiltinRequest"),
            scenes=("A generated dataset of scenes", {"builtin": "scenes:n=16,seed=7"}),
            chosen=(
                "Two selected items, with a label",
                {"builtin": "scenes:n=16", "ids": ["scene-000007", "scene-000002"], "name": "two scenes"},
            ),
        ),
        "application/jsonl": JSON_LINES,
        "application/x-ndjson": JSON_LINES,
        "application/vnd.apache.parquet": BINARY,
        "application/zip": BINARY,
        "application/x-tar": BINARY,
        "application/octet-stream": BINARY,
        "multipart/form-data": form(
            "file",
            {
                "file": part(FILE, "File with the items."),
                "name": NAME_PART,
                "metadata": METADATA_PART,
                "views": part(
                    {
                        "type": "object",
                        "additionalProperties": {"type": "string", "enum": ["text", "code", "image"]},
                    },
                    "Views to read and the kind of each.",
                    {"text": "text"},
                ),
            },
        ),
    }
)

UPGRADE_BODY = require_json(
    refer("UpgradeRequest"),
    documents=(
        "Twelve documents embedded with two models, one a rotation of the other",
        {"old": {"vectors": CIRCLE}, "new": {"vectors": TURNED}, "k": 3, "maps": "procrustes"},
    ),
    relevance=(
        "The same documents with queries and relevance judgments",
        {
            "old": {"vectors": CIRCLE, "ids": HOURS},
            "new": {"vectors": TURNED, "ids": HOURS},
            "queries": {"old": {"vectors": CIRCLE[:4]}, "new": {"vectors": TURNED[:4]}},
            "qrels": {"0": ["3 o'clock"], "1": ["2 o'clock", "1 o'clock"], "3": ["12 o'clock"]},
            "k": 3,
            "maps": ["procrustes", {"kind": "ridge", "penalty": 0.1}],
        },
    ),
)

STUDY_BODY = require_json(
    refer("StudyRequest"),
    square=(
        "Three models compared with each other, and a trend over their size",
        {
            "rows": [
                {"vectors": CIRCLE, "label": "small", "metadata": {"params": 1e8}},
                {"vectors": TURNED, "label": "middle", "metadata": {"params": 1e9}},
                {"vectors": CIRCLE[::-1], "label": "large", "metadata": {"params": 1e10}},
            ],
            "metrics": [{"metric": "mutual_knn", "k": 3}, "cka"],
            "trends": [{"by": "params"}],
        },
    ),
    rectangle=(
        "Stored language models compared with vision models in every layer, preprocessed as in the paper",
        {
            "rows": [{"embedding": EXAMPLE_ID, "label": "language"}],
            "columns": [{"embedding": EXAMPLE_ID, "label": "vision"}],
            "metrics": {"metric": "mutual_knn", "k": 5},
            "layers": "all",
            "preparation": "prh",
            "interval": None,
        },
    ),
)
MORE_MODELS_BODY = require_json(refer("StudyAdditions"))

ALIGNMENT_BODY = require(
    {
        "application/json": show(
            refer("AlignmentRequest"),
            inline=(
                "Inline vectors",
                {
                    "a": {"vectors": CIRCLE},
                    "b": {"vectors": TURNED},
                    "metrics": [{"metric": "mutual_knn", "k": [2, 4]}, "cka"],
                },
            ),
            by_id=(
                "The same items in another order, matched by id",
                {
                    "a": {"vectors": CIRCLE, "ids": HOURS},
                    "b": {"vectors": TURNED[::-1], "ids": HOURS[::-1]},
                    "pairing": "id",
                    "metrics": {"metric": "mutual_knn", "k": 4},
                },
            ),
            stored=("Two stored sets with default options", {"a": STORED, "b": STORED}),
            reference=(
                "A stored set compared with each member of a reference set and ranked among them",
                {"a": STORED, "b": {"reference": EXAMPLE_REFERENCE_ID}},
            ),
            grid=(
                "Every layer of a with every layer of b, preprocessed as in the paper",
                {
                    "a": STORED,
                    "b": STORED,
                    "metrics": [{"metric": "mutual_knn", "k": 5}, {"metric": "cka", "debiased": False}],
                    "layers": "all",
                    "preparation": {"profile": "prh", "clamp_quantile": 0.95},
                    "null": {"method": "analytic", "alpha": 0.01},
                    "interval": {"level": 0.9},
                    "seed": 7,
                    "metadata": {"run": "2026-11-23"},
                },
            ),
        ),
        "multipart/form-data": form(
            "a",
            {
                "a": part(FILE, "File with the vectors of the first set."),
                "b": part(FILE, "File with the vectors of the second set, unless `request` contains `b`."),
                "request": part(refer("FormOptions"), "Options of the alignment.", {"metrics": ["mutual_knn", "cka"]}),
                "ids_a": part(LABELS, "Item ids of `a`, one for each row."),
                "ids_b": part(LABELS, "Item ids of `b`, one for each row."),
                "groups_a": part(LABELS, "Group labels of `a`, one for each row."),
                "groups_b": part(LABELS, "Group labels of `b`, one for each row."),
            },
        ),
    }
)

REFERENCE_BODY = require_json(
    refer("ReferenceRequest"),
    named=(
        "Reference models for the checkpoints of a training run",
        {"name": "released", "embeddings": [EXAMPLE_ID], "metadata": {"items": "dev"}},
    ),
)

MAP_BODY = require(
    {
        "application/json": show(
            refer("MapRequest"),
            stored=(
                "The best rotation from one space to another",
                {"a": STORED, "b": STORED, "map": "procrustes", "name": "released"},
            ),
        ),
        "application/x-safetensors": BINARY,
    }
)
APPLY_BODY = require_json(
    refer("TranslationRequest"), stored=("A stored set, translated by a job", {**STORED, "name": "translated"})
)

PROBLEM = Problem(
    type="https://consilience.dev/problems/invalid-request",
    title="The request is not valid",
    status=422,
    detail="There is no metric 'mutual_nn'; allowed: mutual_knn, cka. Did you mean `mutual_knn`?",
    value="mutual_nn",
    pointer="/metrics/0",
).model_dump(mode="json", exclude_none=True)
