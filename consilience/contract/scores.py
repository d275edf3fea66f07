"""The score document: a number and everything that it needs to be understood."""

from typing import Any, Literal

from pydantic import Field

from consilience.contract.base import Document, Finite, Share
from consilience.contract.metrics import Direction, NullMethod

Grid = tuple[tuple[Finite | None, ...], ...]


class SideSummary(Document):
    """One side of the comparison."""

    id: str | None
    """The embedding set's id; null where arrays or local files were scored."""
    name: str
    n: int
    layers: tuple[str, ...]
    """The layers that took part, in the grid's order."""


class Pairing(Document):
    """How the rows of the two sides were matched."""

    by: Literal["row", "id"] = "row"
    matched: int
    dropped_a: int = 0
    dropped_b: int = 0
    duplicates_a: int = 0
    """Rows of the first layer of a that equal an earlier row."""
    duplicates_b: int = 0


class PreparationRecord(Document):
    """What was done to the rows before any metric saw them."""

    profile: str
    normalise: Literal["l2"] | None
    clamp_quantile: Finite | None = None
    clamp_scope: Literal["model", "layer"] | None = None
    clamp_a: tuple[Finite, ...] | Finite | None = None
    """The threshold in force; one a layer under scope `layer`."""
    clamp_b: tuple[Finite, ...] | Finite | None = None


class Reason(Document):
    """Why something has no value."""

    code: str
    detail: str


class Null(Document):
    """What chance alone would give, and how surprising the value is against it."""

    method: NullMethod
    cells: int
    """Layer pairs over which the best was taken; the correction is for these."""
    mean: Finite | None = None
    sd: Finite | None = None
    threshold: Finite | None = None
    """A value above it has p below alpha."""
    p_value: Share | None = None
    p_is_bound: bool = False
    """The true p is at most this: under Bonferroni, and below 1e-12."""
    draws: int | None = None
    alpha: Finite | None = None
    reason: Reason | None = None
    """Why figures above are null."""


class Interval(Document):
    """Where the value would lie if the items were drawn anew."""

    low: Finite
    high: Finite
    level: Finite
    target: Literal["population", "gallery"]
    method: str


class NeighboursRecord(Document):
    """How the neighbour graphs came about."""

    builder: str
    recall: Share
    cache: Literal["hit", "miss", "mixed"]


class Score(Document):
    """One metric's result."""

    metric: str
    options: dict[str, Any]
    definition: str
    direction: Direction
    status: Literal["defined", "undefined"]
    reason: Reason | None = None
    """Why it is undefined; null where it is defined."""
    value: Finite | None
    aggregate: str
    layer_a: str | None
    layer_b: str | None
    grid: Grid
    """grid[i][j] is layer i of a against layer j of b; null where undefined."""
    null: Null
    calibrated: Finite | None = None
    """(value - threshold) / (1 - threshold), not below 0; null for distances and without a threshold."""
    interval: Interval | None = None
    estimator: Literal["exact", "estimated"] = "exact"
    queries: int
    neighbours: NeighboursRecord | None = None
    warnings: tuple[str, ...] = ()


class ScoreDocument(Document):
    """The answer to an alignment request."""

    schema_: Literal["consilience.score/1"] = Field(default="consilience.score/1", alias="schema")
    a: SideSummary
    b: SideSummary
    n: int
    pairing: Pairing
    preparation: PreparationRecord
    scores: tuple[Score, ...]
    seed: int
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    timings_s: dict[str, Finite]
