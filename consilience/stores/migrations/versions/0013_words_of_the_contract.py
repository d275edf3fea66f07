"""Stored documents use the names of the contract as it was published.

Fields and values were renamed before the first release. Stored requests, results and records are rewritten, so that jobs, maps
and sets of earlier versions open as before. Cells of studies are deleted: they are a cache, and are computed again.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

#: New names of fields, by the field that holds their object; the empty name stands for a whole document.
_FIELDS: dict[str, dict[str, str]] = {
    "": {
        "standings": "ranks",
        "pairs_known": "pairs_reused",
        "cells_known": "cells_reused",
        "ways": "strategies",
        "judgements": "qrels",
        "card": "model_card",
    },
    "null": {"cells": "layer_pairs", "draws": "permutations"},
    "neighbours": {"certified": "verified"},
    "ranks": {"against": "n_scores", "of": "n_ranked", "ahead_of": "outranked_share"},
    "members": {"own": "same_content"},
    "matrices": {"pictures": "layouts", "order": "dendrogram_order"},
    "layouts": {"places": "coordinates"},
    "trends": {"of": "side", "against": "reference"},
    "trend": {"of": "side", "against": "reference"},
    "factors": {"of": "side"},
    "factor": {"of": "side"},
    "agreement": {"asked": "queries"},
    "queries": {"asked": "used"},
    "strategies": {"judged": "relevant_recall"},
    "verdict": {"word": "recommendation", "way": "strategy", "truth": "ground_truth", "clear": "conclusive"},
    "timings_s": {"embedding_processor": "embedding_cpu"},
}
#: New names of fields of a request, by the kind of its job.
_REQUESTS: dict[str, dict[str, str]] = {"map": {"queries": "max_queries"}, "upgrade": {"sample": "max_queries"}}
#: New values of fields.
_VALUES: dict[str, dict[str, str]] = {
    "builder": {"certified_bf16": "verified_bf16", "certified_f32": "verified_f32"},
    "alternative": {"rising": "increasing", "falling": "decreasing", "either": "two_sided"},
    "recommendation": {"re-embed": "re_embed"},
    "ground_truth": {"judgements": "relevance_judgments", "re-embedding": "re_embedding"},
    "pooling": {"own": "built_in"},
}
#: Fields whose objects belong to the user.
_OPAQUE = frozenset({"metadata", "qrels"})


def rename(value: Any, parent: str = "", more: Mapping[str, str] | None = None) -> Any:
    """Return a stored document with the new names.

    Parameters
    ----------
    parent : name of the field that holds `value`, or that holds the list that it is an item of
    more : further new names of the outermost fields
    """
    if isinstance(value, list):
        return [rename(item, parent) for item in value]
    if not isinstance(value, dict):
        return _VALUES.get(parent, {}).get(value, value) if isinstance(value, str) else value
    names: dict[Any, str] = {**_FIELDS.get(parent, {}), **(more or {})}
    renamed = {str(names.get(name, name)): each for name, each in value.items()}
    return {name: each if name in _OPAQUE else rename(each, name) for name, each in renamed.items()}


def upgrade() -> None:
    """Rename two columns and rewrite the documents."""
    with op.batch_alter_table("maps") as maps:
        maps.alter_column("card", new_column_name="model_card")
    with op.batch_alter_table("webhooks") as webhooks:
        webhooks.alter_column("gave_up_at", new_column_name="failed_at")
    op.execute("DELETE FROM cells")
    connection, json = op.get_bind(), sa.JSON(none_as_null=True)
    jobs = sa.table("jobs", sa.column("id"), sa.column("kind"), sa.column("request", json), sa.column("result", json))
    for job_id in connection.scalars(sa.select(jobs.c.id)).all():
        job = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one()
        values = {"request": rename(job.request, more=_REQUESTS.get(job.kind)), "result": rename(job.result)}
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(values))
    embeddings = sa.table("embeddings", sa.column("id"), sa.column("record", json))
    for row in connection.execute(sa.select(embeddings).where(embeddings.c.record.is_not(None))).all():
        connection.execute(sa.update(embeddings).where(embeddings.c.id == row.id).values(record=rename(row.record)))
