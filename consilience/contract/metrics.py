"""Catalogue of metrics: one frozen model for each.

A new metric needs a class here, a pure function in `numerics` and a line in `consilience.metrics`. `GET /v1/metrics`, the
command line and the documentation read these classes.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from consilience.contract.base import Document
from consilience.contract.kernel_metrics import AngularCka, Cka, Cknna, DistanceCorrelation, Rsa, Rv
from consilience.contract.metric import Direction, Metric, NullMethod
from consilience.contract.neighbour_metrics import (
    CycleKnn,
    EditDistanceKnn,
    JaccardKnn,
    LcsKnn,
    MutualKnn,
    RankSimilarity,
    SecondOrderCosine,
)
from consilience.contract.subspace_metrics import (
    AngularShape,
    Bures,
    CcaMean,
    CcaR2,
    EigenspaceOverlap,
    Gulp,
    LinearPredictivity,
    ProcrustesSimilarity,
    Pwcca,
    Svcca,
)

AnyMetric = (
    MutualKnn
    | JaccardKnn
    | RankSimilarity
    | LcsKnn
    | EditDistanceKnn
    | SecondOrderCosine
    | CycleKnn
    | Cknna
    | Cka
    | Rv
    | AngularCka
    | DistanceCorrelation
    | Rsa
    | CcaMean
    | CcaR2
    | Svcca
    | Pwcca
    | EigenspaceOverlap
    | LinearPredictivity
    | ProcrustesSimilarity
    | AngularShape
    | Bures
    | Gulp
)

#: Metric classes by name, in the order of the catalogue.
METRICS: dict[str, type[Metric]] = {cls.model_fields["metric"].default: cls for cls in get_args(AnyMetric)}


def _named(value: object) -> object:
    """Replace the name of a metric by the metric with its defaults."""
    return {"metric": value} if isinstance(value, str) else value


#: Metric in a request: its name, or an object with its options.
MetricChoice = Annotated[
    Annotated[AnyMetric, Field(discriminator="metric")],
    BeforeValidator(_named, json_schema_input_type=Literal[tuple(METRICS)] | AnyMetric),
]


class MetricDescription(Document):
    """Description of a metric."""

    name: str
    title: str
    summary: str
    formula: str
    direction: Direction
    """Whether agreement is a large value (`similarity`) or a small value (`distance`)."""
    symmetric: bool
    """Whether the value stays the same if the two sides are swapped."""
    triangle: bool
    """Whether the metric is a distance that obeys the triangle inequality."""
    low: float | None
    """Smallest possible value; null if there is no lower bound."""
    high: float | None
    """Largest possible value; null if there is no upper bound."""
    chance: str
    """Expected value if the rows are paired at random."""
    nulls: tuple[NullMethod, ...]
    """Methods for the null distribution; the first is the default."""
    rotation_invariant: bool
    """Whether the value stays the same if one side is rotated."""
    scale_invariant: bool
    """Whether the value stays the same if one side is scaled."""
    cost: str
    """Computational cost."""
    reference: str
    """Publication that defines the metric."""
    options: dict[str, Any]
    """JSON schema of each option, by option name."""


class Catalogue(Document):
    """List of all metrics."""

    data: tuple[MetricDescription, ...]


def describe(metric: type[Metric]) -> MetricDescription:
    """Return the description of a metric, which its class determines."""
    schema = metric.model_json_schema()["properties"]
    own = {"name": metric.model_fields["metric"].default, "direction": metric.score_direction}
    own["options"] = {name: value for name, value in schema.items() if name != "metric"}
    facts = {name: getattr(metric, name) for name in MetricDescription.model_fields if name not in own}
    return MetricDescription(**own, **facts)


def catalogue() -> Catalogue:
    """Return the descriptions of all metrics, in order."""
    return Catalogue(data=tuple(describe(metric) for metric in METRICS.values()))
