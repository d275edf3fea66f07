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

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
LABELS: dict[str, Any] = {
    "type": "array",
    "items": {"anyOf": [{"type": "string", "minLength": 1, "maxLength": LABEL_LENGTH}, {"type": "integer"}]},
}
JSON_PART = {"contentType": "application/json"}
FILE_PART = {"contentType": "application/octet-stream"}

UPLOAD_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/x-npy": BINARY,
        "application/x-npz": BINARY,
        "application/x-safetensors": BINARY,
        "application/vnd.apache.parquet": BINARY,
        "application/vnd.apache.arrow.file": BINARY,
        "application/vnd.apache.arrow.stream": BINARY,
        "application/octet-stream": BINARY,
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["vectors"],
                "properties": {"vectors": NUMBERS, "ids": LABELS, "groups": LABELS},
            },
            "examples": {
                "vectors": {"summary": "Twelve vectors of two dimensions", "value": {"vectors": CIRCLE}},
                "ids": {"summary": "The same, with their names", "value": {"vectors": CIRCLE, "ids": HOURS}},
            },
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "name": {"type": "string"},
                    "metadata": {"type": "object"},
                    "ids": LABELS,
                    "groups": LABELS,
                },
            },
            "encoding": {"file": FILE_PART, "metadata": JSON_PART, "ids": JSON_PART, "groups": JSON_PART},
        },
    },
}

#: Three items with two views.
LINES = """{"id": "add", "text": "The sum of two numbers.", "code": "return a + b"}
{"id": "neg", "text": "The opposite of a number.", "code": "return -a"}
{"id": "one", "text": "The number one.", "code": "return 1"}
"""
JSON_LINES: dict[str, Any] = {
    "schema": {"type": "string"},
    "examples": {"lines": {"summary": "Three items with two views", "value": LINES}},
}
DATASET_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/jsonl": JSON_LINES,
        "application/x-ndjson": JSON_LINES,
        "application/vnd.apache.parquet": BINARY,
        "application/zip": BINARY,
        "application/x-tar": BINARY,
        "application/octet-stream": BINARY,
        "application/json": {
            "schema": {"$ref": "#/components/schemas/BuiltinRequest"},
            "examples": {
                "scenes": {"summary": "Scenes from a seed", "value": {"builtin": "scenes:n=16,seed=7"}},
                "chosen": {
                    "summary": "Two of them, under a name of your own",
                    "value": {"builtin": "scenes:n=16", "ids": ["scene-000007", "scene-000002"], "name": "two scenes"},
                },
            },
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "name": {"type": "string"},
                    "metadata": {"type": "object"},
                    "views": {
                        "type": "object",
                        "additionalProperties": {"type": "string", "enum": ["text", "code", "image"]},
                    },
                },
            },
            "encoding": {"file": FILE_PART, "metadata": JSON_PART, "views": JSON_PART},
        },
    },
}

UPGRADE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/UpgradeRequest"},
            "examples": {
                "documents": {
                    "summary": "Twelve documents by two models, one a rotation of the other",
                    "value": {"old": {"vectors": CIRCLE}, "new": {"vectors": TURNED}, "k": 3, "maps": "procrustes"},
                },
                "judged": {
                    "summary": "The same with queries, and which documents answer them",
                    "value": {
                        "old": {"vectors": CIRCLE, "ids": HOURS},
                        "new": {"vectors": TURNED, "ids": HOURS},
                        "queries": {"old": {"vectors": CIRCLE[:4]}, "new": {"vectors": TURNED[:4]}},
                        "judgements": {"0": ["3 o'clock"], "1": ["2 o'clock", "1 o'clock"], "3": ["12 o'clock"]},
                        "k": 3,
                        "maps": ["procrustes", {"kind": "ridge", "penalty": 0.1}],
                    },
                },
            },
        }
    },
}

STUDY_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/StudyRequest"},
            "examples": {
                "square": {
                    "summary": "Three models with each other, and whether alignment rises with their size",
                    "value": {
                        "rows": [
                            {"vectors": CIRCLE, "label": "small", "metadata": {"params": 1e8}},
                            {"vectors": TURNED, "label": "middle", "metadata": {"params": 1e9}},
                            {"vectors": CIRCLE[::-1], "label": "large", "metadata": {"params": 1e10}},
                        ],
                        "metrics": [{"metric": "mutual_knn", "k": 3}, "cka"],
                        "trends": [{"by": "params"}],
                    },
                },
                "rectangle": {
                    "summary": "Stored language models by vision models, every layer, prepared as in the paper",
                    "value": {
                        "rows": [{"embedding": EXAMPLE_ID, "label": "language"}],
                        "columns": [{"embedding": EXAMPLE_ID, "label": "vision"}],
                        "metrics": {"metric": "mutual_knn", "k": 5},
                        "layers": "all",
                        "preparation": "prh",
                        "interval": None,
                    },
                },
            },
        }
    },
}
MORE_MODELS_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/MoreModels"},
        }
    },
}

ALIGNMENT_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/AlignmentRequest"},
            "examples": {
                "inline": {
                    "summary": "A few vectors in the request itself",
                    "value": {
                        "a": {"vectors": CIRCLE},
                        "b": {"vectors": TURNED},
                        "metrics": [{"metric": "mutual_knn", "k": [2, 4]}, "cka"],
                    },
                },
                "by_id": {
                    "summary": "The same items in another order, paired by their ids",
                    "value": {
                        "a": {"vectors": CIRCLE, "ids": HOURS},
                        "b": {"vectors": TURNED[::-1], "ids": HOURS[::-1]},
                        "pairing": "id",
                        "metrics": {"metric": "mutual_knn", "k": 4},
                    },
                },
                "stored": {
                    "summary": "Two stored sets, everything else by default",
                    "value": {
                        "a": {"embedding": EXAMPLE_ID},
                        "b": {"embedding": EXAMPLE_ID},
                    },
                },
                "reference": {
                    "summary": "A stored set against each member of a reference set, and its rank among them",
                    "value": {"a": {"embedding": EXAMPLE_ID}, "b": {"reference": EXAMPLE_REFERENCE_ID}},
                },
                "grid": {
                    "summary": "Every layer against every layer, prepared as in the paper",
                    "value": {
                        "a": {"embedding": EXAMPLE_ID},
                        "b": {"embedding": EXAMPLE_ID},
                        "metrics": [{"metric": "mutual_knn", "k": 5}, {"metric": "cka", "debiased": False}],
                        "layers": "all",
                        "preparation": {"profile": "prh", "clamp_quantile": 0.95},
                        "null": {"method": "analytic", "alpha": 0.01},
                        "interval": {"level": 0.9},
                        "seed": 7,
                        "metadata": {"run": "2026-11-23"},
                    },
                },
            },
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["a"],
                "properties": {
                    "a": {"type": "string", "format": "binary"},
                    "b": {"type": "string", "format": "binary"},
                    "request": {"$ref": "#/components/schemas/FormOptions"},
                    "ids_a": LABELS,
                    "ids_b": LABELS,
                    "groups_a": LABELS,
                    "groups_b": LABELS,
                },
            },
            "encoding": {
                "a": FILE_PART,
                "b": FILE_PART,
                **dict.fromkeys(("request", "ids_a", "ids_b", "groups_a", "groups_b"), JSON_PART),
            },
        },
    },
}

REFERENCE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/ReferenceRequest"},
            "examples": {
                "named": {
                    "summary": "The models that checkpoints of a run are to be scored against",
                    "value": {"name": "released", "embeddings": [EXAMPLE_ID], "metadata": {"items": "dev"}},
                }
            },
        }
    },
}

MAP_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/MapRequest"},
            "examples": {
                "stored": {
                    "summary": "The best rotation from one model's space to another's",
                    "value": {
                        "a": {"embedding": EXAMPLE_ID},
                        "b": {"embedding": EXAMPLE_ID},
                        "map": "procrustes",
                        "name": "released",
                    },
                }
            },
        },
        "application/x-safetensors": BINARY,
    },
}

APPLY_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/TranslationRequest"},
            "examples": {
                "stored": {
                    "summary": "A stored set, by a job",
                    "value": {"embedding": EXAMPLE_ID, "name": "translated"},
                }
            },
        }
    },
}

PROBLEM = Problem(
    type="https://consilience.dev/problems/invalid-request",
    title="The request is not valid",
    status=422,
    detail="There is no metric 'mutual_nn'; allowed: mutual_knn, cka. Did you mean `mutual_knn`?",
    value="mutual_nn",
    pointer="/metrics/0",
).model_dump(mode="json", exclude_none=True)
