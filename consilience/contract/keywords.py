"""Keyword arguments for the fields of option classes.

A function that accepts options also accepts each of their fields as a keyword: ``**fields: Unpack[ScoringKeywords]``. Editors
complete the names, type checkers verify the values, and values are wider than those of the class: a field that holds another
class also accepts a mapping or its short form. The class of the options describes the fields and validates the values.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from consilience.contract.alignments import (
    Aggregate,
    IntervalChoice,
    Layers,
    NullChoice,
    NullWord,
    Preparation,
    Profile,
)
from consilience.contract.maps import LinearChoice, MapKind, MapLayers, MapPreparation, Mlp
from consilience.contract.metrics import AnyMetric
from consilience.contract.search import Approximate, Estimate, ExactBuilder
from consilience.contract.studies import Difference, Factor, Trend
from consilience.contract.upgrades import Thresholds, UpgradeLayers

#: A JSON object in place of an instance of its class.
JsonObject = Mapping[str, Any]
#: A metric by name, or with its options.
MetricInput = str | AnyMetric | JsonObject
#: `last`, `all`, or names of layers in the order wanted.
LayerInput = Literal["last", "all"] | list[str] | tuple[str, ...]
#: A kind of map by name, or with its options.
MapInput = MapKind | LinearChoice | Mlp | JsonObject


class ComparisonKeywords(TypedDict, total=False):
    """Fields that alignments and studies share."""

    metrics: MetricInput | Sequence[MetricInput]
    layers: LayerInput | Layers | JsonObject
    aggregate: Aggregate
    top_k: int
    concat: bool
    preparation: Profile | Preparation | JsonObject
    null: NullWord | NullChoice | JsonObject
    interval: IntervalChoice | JsonObject | None
    estimate: Literal["all"] | Estimate | JsonObject
    builder: ExactBuilder | Approximate | JsonObject
    gallery_sizes: Literal["auto"] | Sequence[int] | None
    memory_budget_bytes: int | None
    pairing: Literal["row", "id"]
    seed: int


class ScoringKeywords(ComparisonKeywords, total=False):
    """Fields of ScoringOptions."""

    metadata: JsonObject


class StudyKeywords(ComparisonKeywords, total=False):
    """Fields of StudyOptions, except `metadata` and `webhook`, which the functions for studies have as parameters."""

    trends: Sequence[Trend | JsonObject]
    factors: Sequence[Factor | JsonObject]
    differences: Sequence[Difference | JsonObject]
    umap: bool


class MapKeywords(TypedDict, total=False):
    """Fields of MapOptions."""

    map: MapInput
    layers: str | MapLayers | JsonObject
    preparation: MapPreparation
    pairing: Literal["row", "id"]
    test_share: float
    queries: int
    recall_at: int | Sequence[int]
    level: float
    seed: int
    metadata: JsonObject


class UpgradeKeywords(TypedDict, total=False):
    """Fields of UpgradeOptions."""

    maps: MapInput | Sequence[MapInput]
    k: int
    layers: str | UpgradeLayers | JsonObject
    pairing: Literal["row", "id"]
    test_share: float
    sample: int
    worst: int
    thresholds: Thresholds | JsonObject
    level: float
    seed: int
    metadata: JsonObject
