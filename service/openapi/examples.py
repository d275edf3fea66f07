"""Request bodies as the OpenAPI document shows them. A test sends each one to a real server."""

from typing import Any

from consilience.contract.base import LABEL_LENGTH
from consilience.contract.problems import Problem

#: Stands for a stored set in the examples.
EXAMPLE_ID = "emb_0123456789abcdef0123456789abcdef"
#: Stands for a reference set.
EXAMPLE_REFERENCE_ID = "ref_0123456789abcdef0123456789abcdef"

#: Twelve points on a circle, and the same turned by a right angle: every score but the last digits is 1.
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
    """A schema by the name of its model."""
    return {"$ref": f"#/components/schemas/{model}"}


def show(schema: dict[str, Any], **examples: tuple[str, object]) -> dict[str, Any]:
    """A schema and its examples, each with a summary, by their names."""
    shown = {name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()}
    return {"schema": schema, "examples": shown} if shown else {"schema": schema}


def form(required: str, properties: dict[str, Any]) -> dict[str, Any]:
    """A form with a file that it cannot do without: other files, text, and parts in JSON."""
    encoding = {
        name: FILE_PART if schema is FILE else JSON_PART for name, schema in properties.items() if schema is not TEXT
    }
    return {"schema": {"type": "object", "required": [required], "properties": properties}, "encoding": encoding}


def require(content: dict[str, Any]) -> dict[str, Any]:
    """A request body, by its media types."""
    return {"required": True, "content": content}


def require_json(schema: dict[str, Any], **examples: tuple[str, object]) -> dict[str, Any]:
    """A request body in JSON alone."""
    return require({"application/json": show(schema, **examples)})


UPLOAD_BODY = require(
    {
        "application/x-npy": BINARY,
        "application/x-npz": BINARY,
        "application/x-safetensors": BINARY,
        "application/vnd.apache.parquet": BINARY,
        "application/vnd.apache.arrow.file": BINARY,
        "application/vnd.apache.arrow.stream": BINARY,
        "application/octet-stream": BINARY,
        "application/json": show(
            {
                "type": "object",
                "required": ["vectors"],
                "properties": {"vectors": NUMBERS, "ids": LABELS, "groups": LABELS},
            },
            vectors=("Twelve vectors of two dimensions", {"vectors": CIRCLE}),
            ids=("The same, with their names", {"vectors": CIRCLE, "ids": HOURS}),
        ),
        "multipart/form-data": form(
            "file", {"file": FILE, "name": TEXT, "metadata": OBJECT, "ids": LABELS, "groups": LABELS}
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
        "application/jsonl": JSON_LINES,
        "application/x-ndjson": JSON_LINES,
        "application/vnd.apache.parquet": BINARY,
        "application/zip": BINARY,
        "application/x-tar": BINARY,
        "application/octet-stream": BINARY,
        "application/json": show(
            refer("BuiltinRequest"),
            scenes=("Scenes from a seed", {"builtin": "scenes:n=16,seed=7"}),
            chosen=(
                "Two of them, under a name of your own",
                {"builtin": "scenes:n=16", "ids": ["scene-000007", "scene-000002"], "name": "two scenes"},
            ),
        ),
        "multipart/form-data": form(
            "file",
            {
                "file": FILE,
                "name": TEXT,
                "metadata": OBJECT,
                "views": {
                    "type": "object",
                    "additionalProperties": {"type": "string", "enum": ["text", "code", "image"]},
                },
            },
        ),
    }
)

UPGRADE_BODY = require_json(
    refer("UpgradeRequest"),
    documents=(
        "Twelve documents by two models, one a rotation of the other",
        {"old": {"vectors": CIRCLE}, "new": {"vectors": TURNED}, "k": 3, "maps": "procrustes"},
    ),
    judged=(
        "The same with queries, and which documents answer them",
        {
            "old": {"vectors": CIRCLE, "ids": HOURS},
            "new": {"vectors": TURNED, "ids": HOURS},
            "queries": {"old": {"vectors": CIRCLE[:4]}, "new": {"vectors": TURNED[:4]}},
            "judgements": {"0": ["3 o'clock"], "1": ["2 o'clock", "1 o'clock"], "3": ["12 o'clock"]},
            "k": 3,
            "maps": ["procrustes", {"kind": "ridge", "penalty": 0.1}],
        },
    ),
)

STUDY_BODY = require_json(
    refer("StudyRequest"),
    square=(
        "Three models with each other, and whether alignment rises with their size",
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
        "Stored language models by vision models, every layer, prepared as in the paper",
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
MORE_MODELS_BODY = require_json(refer("MoreModels"))

ALIGNMENT_BODY = require(
    {
        "application/json": show(
            refer("AlignmentRequest"),
            inline=(
                "A few vectors in the request itself",
                {
                    "a": {"vectors": CIRCLE},
                    "b": {"vectors": TURNED},
                    "metrics": [{"metric": "mutual_knn", "k": [2, 4]}, "cka"],
                },
            ),
            by_id=(
                "The same items in another order, paired by their ids",
                {
                    "a": {"vectors": CIRCLE, "ids": HOURS},
                    "b": {"vectors": TURNED[::-1], "ids": HOURS[::-1]},
                    "pairing": "id",
                    "metrics": {"metric": "mutual_knn", "k": 4},
                },
            ),
            stored=("Two stored sets, everything else by default", {"a": STORED, "b": STORED}),
            reference=(
                "A stored set against each member of a reference set, and its rank among them",
                {"a": STORED, "b": {"reference": EXAMPLE_REFERENCE_ID}},
            ),
            grid=(
                "Every layer against every layer, prepared as in the paper",
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
                "a": FILE,
                "b": FILE,
                "request": refer("FormOptions"),
                **dict.fromkeys(("ids_a", "ids_b", "groups_a", "groups_b"), LABELS),
            },
        ),
    }
)

REFERENCE_BODY = require_json(
    refer("ReferenceRequest"),
    named=(
        "The models that checkpoints of a run are to be scored against",
        {"name": "released", "embeddings": [EXAMPLE_ID], "metadata": {"items": "dev"}},
    ),
)

MAP_BODY = require(
    {
        "application/json": show(
            refer("MapRequest"),
            stored=(
                "The best rotation from one model's space to another's",
                {"a": STORED, "b": STORED, "map": "procrustes", "name": "released"},
            ),
        ),
        "application/x-safetensors": BINARY,
    }
)
APPLY_BODY = require_json(
    refer("TranslationRequest"), stored=("A stored set, by a job", {**STORED, "name": "translated"})
)

PROBLEM = Problem(
    type="https://consilience.dev/problems/invalid-request",
    title="The request is not valid",
    status=422,
    detail="There is no metric 'mutual_nn'; allowed: mutual_knn, cka. Did you mean `mutual_knn`?",
    value="mutual_nn",
    pointer="/metrics/0",
).model_dump(mode="json", exclude_none=True)
