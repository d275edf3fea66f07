"""The options that only `consilience study` has, and what they mean in the contract."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from consilience.cli.options import file_to_write
from consilience.cli.study_words import parse_difference, parse_factor, parse_trend
from consilience.client.options import options_of
from consilience.contract.jobs import ScoringOptions
from consilience.contract.studies import StudyOptions

Trends = Annotated[
    list[str] | None,
    Option("--trend", metavar="KEY[:OPTION=VALUE,...]", help="Does alignment rise with this number? Repeatable."),
]
Factors = Annotated[
    list[str] | None,
    Option("--factor", metavar="KEY[:OPTION=VALUE,...]", help="Does it rise from level to level? Repeatable."),
]
Differences = Annotated[
    list[str] | None,
    Option("--difference", metavar="FIRST,SECOND,REFERENCE", help="Which one is nearer? Repeatable."),
]
Against = Annotated[
    list[str] | None,
    Option("--against", metavar="[LABEL=]MODEL", help="Compare with these, and not with each other. Repeatable."),
]
MetadataFile = Annotated[
    Path | None, Option("--metadata", metavar="FILE", dir_okay=False, help='JSON: {"LABEL": {"params": 1e9}, ...}.')
]
Umap = Annotated[bool, Option("--umap", help="Also place the models by UMAP.")]
Interval = Annotated[bool, Option("--interval/--no-interval", help="Whether cells have intervals.")]
OutFile = Annotated[
    Path | None,
    file_to_write("Write it here: .csv, .parquet, or the whole as JSON."),
]


@dataclass(frozen=True)
class Questions:
    """What a study asks of all its models together."""

    trend: Trends = None
    factor: Factors = None
    difference: Differences = None
    umap: Umap = False


def read_study_options(scoring: ScoringOptions, questions: Questions, *, interval: bool) -> StudyOptions:
    """The contract's options; InvalidRequest says which word cannot be used."""
    asked: dict[str, Any] = {
        "trends": [parse_trend(word) for word in questions.trend or ()],
        "factors": [parse_factor(word) for word in questions.factor or ()],
        "differences": [parse_difference(word) for word in questions.difference or ()],
        "umap": questions.umap,
        **({} if interval else {"interval": None}),
    }
    return options_of(StudyOptions, None, {name: getattr(scoring, name) for name in scoring.model_fields_set} | asked)
