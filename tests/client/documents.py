"""Documents that a service sends."""

from typing import Any

JOB_ID = "job_" + "0" * 32
SET_ID = "emb_" + "0" * 32
DATASET_ID = "ds_" + "0" * 32


def job(status: str = "queued", **fields: Any) -> dict[str, Any]:
    plan = {"n": 4, "dim_a": 2, "dim_b": 2, "cells": 1, "flops": 1.0, "bytes": 1, "seconds": 0.1}
    return {
        "id": JOB_ID,
        "kind": "alignment",
        "status": status,
        "created_at": "2026-11-24T00:00:00Z",
        "plan": plan,
        "request": {},
        "links": {},
        **fields,
    }


def problem(code: str, status: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": f"https://consilience.dev/problems/{code}",
        "title": "title",
        "status": status,
        "detail": "What is wrong.",
        **fields,
    }


def embedding_set(**fields: Any) -> dict[str, Any]:
    layer = {"name": "0", "dim": 2, "dtype": "F32", "digest": "0" * 64}
    return {
        "id": SET_ID,
        "name": "a",
        "n": 4,
        "layers": [layer],
        "digest": "0" * 64,
        "metadata": {},
        "bytes": 32,
        "created_at": "2026-11-24T00:00:00Z",
        "links": {},
        **fields,
    }


def dataset(**fields: Any) -> dict[str, Any]:
    return {
        "id": DATASET_ID,
        "name": "a",
        "n": 4,
        "views": [{"name": "text", "kind": "text", "bytes": 9, "digest": "0" * 64}],
        "ids": {"digest": "0" * 64, "unique": 4},
        "digest": "0" * 64,
        "metadata": {},
        "bytes": 9,
        "created_at": "2026-11-24T00:00:00Z",
        "links": {},
        **fields,
    }
