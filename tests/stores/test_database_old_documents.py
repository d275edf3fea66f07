"""Documents that an earlier version stored."""

import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command

from consilience.contract.upgrades import Verdict
from consilience.stores import tables
from consilience.stores.database import Database
from consilience.stores.migrations.upgrade import make_config

REQUEST = {"judgements": {"way": ["word"]}, "sample": 50, "metadata": {"ways": {"judged": 1}}}
VERDICT = {"word": "re-embed", "way": "re_embed", "best": None, "truth": "judgements", "retained": None}
VERDICT |= {"threshold": 0.9, "clear": True, "text": "Re-embed."}
RESULT: dict[str, Any] = {
    "ways": [{"name": "keep", "judged": 0.5}],
    "queries": {"asked": 20},
    "verdict": VERDICT,
    "scores": [{"null": {"cells": 9, "draws": 200}, "neighbours": {"builder": "certified_bf16", "certified": 1.0}}],
    "standings": [{"of": 4, "against": 3, "ahead_of": 0.5}],
}


def insert_job(connection: sa.Connection) -> None:
    columns = {
        "id": "job_1",
        "kind": "upgrade",
        "status": "succeeded",
        "cancel_requested": False,
        "delivery": 1,
        "beat": 0,
    }
    columns |= {"crashes": 0, "version": 1, "plan": "{}", "request": json.dumps(REQUEST), "result": json.dumps(RESULT)}
    columns |= {"created_at": "2026-01-01 00:00:00"}
    names = ", ".join(columns)
    values = ", ".join(f":{name}" for name in columns)
    statement = f"INSERT INTO jobs ({names}) VALUES ({values})"  # noqa: S608 - the names stand above
    connection.execute(sa.text(statement), columns)


def test_documents_of_earlier_versions_get_the_new_names(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'old.db'}")
    config = make_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0012")
        insert_job(connection)
    engine.dispose()
    database = Database(f"sqlite:///{tmp_path / 'old.db'}")
    database.migrate()
    with database.read() as connection:
        request, result = connection.execute(sa.select(tables.jobs.c.request, tables.jobs.c.result)).one()
    database.close()
    assert request == {"qrels": {"way": ["word"]}, "max_queries": 50, "metadata": {"ways": {"judged": 1}}}
    assert result["strategies"] == [{"name": "keep", "relevant_recall": 0.5}]
    assert result["queries"] == {"used": 20}
    assert Verdict.model_validate(result["verdict"]).recommendation == "re_embed"
    assert result["verdict"]["ground_truth"] == "relevance_judgments"
    (score,) = result["scores"]
    assert score["null"] == {"layer_pairs": 9, "permutations": 200}
    assert score["neighbours"] == {"builder": "verified_bf16", "verified": 1.0}
    assert result["ranks"] == [{"n_ranked": 4, "n_scores": 3, "outranked_share": 0.5}]
