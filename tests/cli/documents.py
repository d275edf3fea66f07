"""Score documents to render."""

from typing import Any

from consilience.contract.scores import ScoreDocument


def score(**fields: Any) -> dict[str, Any]:
    null = {"method": "bonferroni", "layer_pairs": 49, "mean": 0.0196, "p_value": 1e-12, "p_is_bound": True}
    interval = {"low": 0.19, "high": 0.2349, "level": 0.95, "target": "population", "method": "delete-half"}
    return {
        "metric": "mutual_knn",
        "options": {"k": 10},
        "definition": "standard",
        "direction": "similarity",
        "status": "defined",
        "value": 0.21074,
        "aggregate": "max",
        "layer_a": "6",
        "layer_b": "6",
        "grid": [[0.21074]],
        "null": null,
        "interval": interval,
        "queries": 512,
        **fields,
    }


def undefined(**fields: Any) -> dict[str, Any]:
    nothing = {"method": "none", "layer_pairs": 1, "reason": {"code": "undefined", "detail": "There is no value."}}
    return score(
        status="undefined",
        reason={"code": "constant", "detail": "Every row of a is the same."},
        value=None,
        layer_a=None,
        layer_b=None,
        grid=[[None]],
        null=nothing,
        interval=None,
        **fields,
    )


def document(*scores: dict[str, Any], layers: tuple[str, ...] = ("6",)) -> ScoreDocument:
    side = {"id": None, "name": "docs", "n": 512, "layers": layers}
    return ScoreDocument.model_validate(
        {
            "schema": "consilience.score/1",
            "a": side,
            "b": {**side, "name": "code"},
            "n": 512,
            "pairing": {"matched": 512},
            "preparation": {"profile": "l2", "normalise": "l2"},
            "scores": scores,
            "seed": 0,
            "versions": {},
            "timings_s": {},
        }
    )
