"""Types of the arguments that stand for options, in the library and in the clients.

An argument is wider than the field of the options that it sets: a mapping, or a short form such as a name, stands for an
instance of a class. Functions of the library name every option in their signature. Methods of the clients accept the same ones
as ``**fields: Unpack[ScoringKeywords]``; editors complete them and type checkers verify them. The classes of the options
describe and validate the values.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from consilience.contract.alignments import (
    Aggregate,
    IntervalChoice,
    Layers,
    NullChoice,
    NullMethodChoice,
    Preparation,
    Profile,
)
from consilience.contract.maps import MapChoice, MapKind, MapLayers, MapPreparation
from consilience.contract.metric import Metric
from consilience.contract.search import Approximate, Estimate, ExactBuilder
from consilience.contract.studies import Difference, Factor, Trend
from consilience.contract.upgrades import Thresholds, UpgradeLayers

#: A JSON object in place of an instance of its class.
JsonObject = Mapping[str, object]
#: A metric by name, or with its options.
MetricArgument = str | Metric | JsonObject
MetricsArgument = MetricArgument | Sequence[MetricArgument]
#: `last`, `all`, or names of layers in the order wanted; or such a choice for each side.
LayersArgument = str | Sequence[str] | Layers | Mapping[str, str | Sequence[str]]
PreparationArgument = Profile | Preparation | JsonObject
NullArgument = NullMethodChoice | NullChoice | JsonObject
IntervalArgument = IntervalChoice | JsonObject | None
EstimateArgument = Literal["all"] | Estimate | JsonObject
BuilderArgument = ExactBuilder | Approximate | JsonObject
GallerySizesArgument = Literal["auto"] | Sequence[int] | None
PairingArgument = Literal["row", "id"]
#: A kind of map by name, or with its options.
MapArgument = MapKind | MapChoice | JsonObject
MapsArgument = MapArgument | Sequence[MapArgument]
MapLayersArgument = str | MapLayers | Mapping[str, str]
UpgradeLayersArgument = str | UpgradeLayers | Mapping[str, str]
ThresholdsArgument = Thresholds | JsonObject
TrendsArgument = Sequence[Trend | JsonObject]
FactorsArgument = Sequence[Factor | JsonObject]
DifferencesArgument = Sequence[Difference | JsonObject]

#: Defaults in the signatures of the library's calls.
DEFAULT_INTERVAL = IntervalChoice()
DEFAULT_THRESHOLDS = Thresholds()


class ComparisonKeywords(TypedDict, total=False):
    """Fields that alignments and studies share."""

    metrics: MetricsArgument
    layers: LayersArgument
    aggregate: Aggregate
    top_k: int
    concat: bool
    preparation: PreparationArgument
    null: NullArgument
    interval: IntervalArgument
    estimate: EstimateArgument
    builder: BuilderArgument
    gallery_sizes: GallerySizesArgument
    memory_budget_bytes: int | None
    pairing: PairingArgument
    seed: int


class ScoringKeywords(ComparisonKeywords, total=False):
    """Fields of ScoringOptions."""

    metadata: JsonObject


class StudyKeywords(ComparisonKeywords, total=False):
    """Fields of StudyOptions, except `metadata` and `webhook`, which the functions for studies have as parameters."""

    trends: TrendsArgument
    factors: FactorsArgument
    differences: DifferencesArgument
    umap: bool


class MapKeywords(TypedDict, total=False):
    """Fields of MapOptions."""

    map: MapArgument
    layers: MapLayersArgument
    preparation: MapPreparation
    pairing: PairingArgument
    test_share: float
    max_queries: int
    recall_at: int | Sequence[int]
    level: float
    seed: int
    metadata: JsonObject


class UpgradeKeywords(TypedDict, total=False):
    """Fields of UpgradeOptions."""

    maps: MapsArgument
    k: int
    layers: UpgradeLayersArgument
    pairing: PairingArgument
    test_share: float
    max_queries: int
    worst: int
    thresholds: ThresholdsArgument
    level: float
    seed: int
    metadata: JsonObject
