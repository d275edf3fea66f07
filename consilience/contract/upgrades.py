"""Upgrades of an embedding model: what becomes of an index of the old model's vectors when the new model asks."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from consilience.contract.base import Level, Metadata, Request, as_many
from consilience.contract.jobs import Label, Side
from consilience.contract.maps import MapChoice, MapKind, Procrustes, Ridge
from consilience.contract.upgrade_reports import Thresholds
from consilience.contract.webhooks import WebhookChoice

#: Neighbours that a report counts, at most.
K_MAX = 1000
#: Rows that ask, at most.
SAMPLE_MAX = 100_000
WORST_MAX = 100


def _kind(value: object) -> object:
    """A bare name stands for the map with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


UpgradeMap = Annotated[MapChoice, BeforeValidator(_kind, json_schema_input_type=MapKind | MapChoice)]
UpgradeMaps = Annotated[
    tuple[UpgradeMap, ...],
    BeforeValidator(as_many, json_schema_input_type=MapKind | MapChoice | tuple[MapKind | MapChoice, ...]),
    Field(max_length=16),
]


class UpgradeLayers(Request):
    """Which layer of each model is compared: `last`, or a name."""

    old: str = "last"
    new: str = "last"


def _both_models(value: object) -> object:
    """One name stands for both models."""
    return {"old": value, "new": value} if isinstance(value, str) else value


class UpgradeOptions(Request):
    """Everything of an upgrade report but the vectors and the judgements; every field has a default."""

    maps: UpgradeMaps = Field(default=(Procrustes(), Ridge()), description="from the new space to the old one")
    k: Annotated[int, Field(strict=True, ge=1, le=K_MAX)] = Field(default=10, description="neighbours that are counted")
    layers: Annotated[UpgradeLayers, BeforeValidator(_both_models, json_schema_input_type=str | UpgradeLayers)] = (
        UpgradeLayers()
    )
    pairing: Literal["row", "id"] = "row"
    test_share: Annotated[float, Field(gt=0.0, le=0.5)] = Field(
        default=0.2, description="share of the documents, whole groups, that no map is fitted on"
    )
    sample: Annotated[int, Field(strict=True, ge=2, le=SAMPLE_MAX)] = Field(
        default=1000, description="documents that ask, and queries that ask, at most; all documents answer"
    )
    worst: Annotated[int, Field(strict=True, ge=0, le=WORST_MAX)] = Field(
        default=10, description="items listed that changed most"
    )
    thresholds: Thresholds = Thresholds()
    level: Level = Field(default=0.95, description="of the intervals")
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    metadata: Metadata = Field(default={})


class QuerySides(Request):
    """The same queries by both models."""

    old: Side
    new: Side


#: For each query the documents that answer it, by their ids, or by row numbers where there are no ids.
Judgements = dict[str, tuple[Label, ...]]


class UpgradeRequest(UpgradeOptions):
    """The question what a swap of the model of `old` for that of `new` asks of an index of documents."""

    old: Side
    new: Side
    queries: QuerySides | None = Field(
        default=None, description="by both models; null: documents that no map was fitted on ask in their place"
    )
    judgements: Judgements | None = Field(
        default=None,
        description="for each query, by id or row number, the documents that answer it; a request has at most 10,000 values, "
        "the command and the library have no limit",
    )

    webhook: WebhookChoice | None = Field(default=None, description="where the end of the job is told")

    @model_validator(mode="after")
    def _judged_queries(self) -> Self:
        check_judgements(self.judgements, queries=self.queries is not None)
        return self


def check_judgements(judgements: Mapping[str, object] | None, *, queries: bool) -> None:
    """ValueError for judgements of queries that there are not."""
    if judgements is not None and not queries:
        raise ValueError("`judgements` are about queries: give `queries` too")
