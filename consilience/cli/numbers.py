"""Figures as people read them."""

from collections.abc import Mapping
from typing import Any

from consilience.contract.metrics import METRICS
from consilience.contract.scores import Interval, Null, Score

#: The least p-value that a closed form reports.
P_FLOOR = 1e-12
ABSENT = "-"


def figure(value: float | None) -> str:
    """Four decimals: more would claim a precision that no sample has."""
    # Adding zero turns the minus zero of a rounded figure into zero.
    return ABSENT if value is None else f"{round(value, 4) + 0.0:.4f}"


def p_value(null: Null) -> str:
    """With `<` or `<=` where it is a bound."""
    if null.p_value is None:
        return ABSENT
    if null.p_is_bound and null.p_value <= P_FLOOR:
        return f"< {P_FLOOR:.0e}"
    text = f"{null.p_value:.2g}"
    return f"<= {text}" if null.p_is_bound else text


def interval(found: Interval | None) -> str:
    """Low and high."""
    return ABSENT if found is None else f"[{found.low:.3f}, {found.high:.3f}]"


def metric_label(name: str, options: Mapping[str, Any]) -> str:
    """The name, its k, and the options that are not the default."""
    kind = METRICS.get(name)
    usual = kind.model_validate({"metric": name}).options() if kind else {}
    told = {key: value for key, value in options.items() if key == "k" or usual.get(key, value) != value}
    return " ".join([name, *(f"{key}={_word(value)}" for key, value in told.items())])


def layers_label(score: Score) -> str:
    """The best pair of layers."""
    return ABSENT if score.layer_a is None else f"{score.layer_a} / {score.layer_b}"


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
