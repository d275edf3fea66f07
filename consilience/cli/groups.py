"""Options that come together, and what they mean in the contract."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consilience.cli.builder_words import parse_builder
from consilience.cli.columns import Columns, read_columns
from consilience.cli.metric_words import parse_metric, with_k
from consilience.cli.options import (
    Aggregate,
    Builder,
    ColumnFile,
    Concat,
    Draws,
    Estimate,
    Json,
    K,
    Layers,
    Metrics,
    NullMethod,
    Out,
    Pairing,
    Profile,
    Seed,
    Server,
    Timeout,
)
from consilience.cli.scoring_words import parse_bytes, parse_estimate, parse_layers, parse_sizes
from consilience.client.options import options_of
from consilience.contract.jobs import ScoringOptions


@dataclass(frozen=True)
class Measures:
    """What is measured, of which layers, and against which chance."""

    metric: Metrics = None
    k: K = None
    profile: Profile = "l2"
    layers: Layers = None
    aggregate: Aggregate = "max"
    concat: Concat = False
    null: NullMethod = "auto"
    draws: Draws = 200


@dataclass(frozen=True)
class Search:
    """Which rows belong together, and how their neighbours are found."""

    seed: Seed = 0
    pairing: Pairing = "row"
    builder: Builder = "auto"
    estimate: Estimate = "all"


@dataclass(frozen=True)
class LabelFiles:
    """Files of ids and groups of both sides."""

    ids_a: ColumnFile = None
    ids_b: ColumnFile = None
    groups_a: ColumnFile = None
    groups_b: ColumnFile = None

    def read(self) -> Columns:
        """What the files hold; errors name the option."""
        return read_columns(ids=(self.ids_a, self.ids_b), groups=(self.groups_a, self.groups_b))


@dataclass(frozen=True)
class Output:
    """Where the document goes."""

    out: Out = None
    as_json: Json = False


@dataclass(frozen=True)
class Service:
    """Who does it, and how long that may take."""

    server: Server = None
    timeout: Timeout = None


def read_options(
    measures: Measures,
    search: Search,
    *,
    correction: str = "none",
    gallery_sizes: str | None = None,
    memory_budget: str | None = None,
    unnamed: Sequence[dict[str, Any]] | None = None,
) -> ScoringOptions:
    """The contract's options; InvalidRequest says which word cannot be used.

    Parameters
    ----------
    unnamed
        The metrics where none is named; without it the contract's own.
    """
    named = [parse_metric(word) for word in measures.metric or ()]
    chosen = named or unnamed or [parse_metric(metric.metric) for metric in ScoringOptions().metrics]
    fields = {
        "metrics": [with_k(choice, measures.k) for choice in chosen],
        "layers": parse_layers(measures.layers or ["last"]),
        "preparation": measures.profile,
        "null": {"method": measures.null, "draws": measures.draws, "correction": correction},
        "aggregate": measures.aggregate,
        "concat": measures.concat,
        "seed": search.seed,
        "pairing": search.pairing,
        "builder": parse_builder(search.builder),
        "estimate": parse_estimate(search.estimate),
        "gallery_sizes": parse_sizes(gallery_sizes),
        "memory_budget_bytes": None if memory_budget is None else parse_bytes(memory_budget),
    }
    return options_of(ScoringOptions, None, fields)
