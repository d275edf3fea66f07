"""What `consilience upgrade` is given, and what it means in the contract."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from typer import Option

from consilience.cli.columns import Labels, read_optional
from consilience.cli.judgements import Judgements, read_judgements
from consilience.cli.metric_words import parse_map
from consilience.cli.options import ColumnFile, Pairing, Seed
from consilience.client.options import options_of
from consilience.contract.upgrades import UpgradeOptions
from consilience.errors import InvalidRequest

Pair = tuple[str, str]

Queries = Annotated[str | None, Option(metavar="FILE", help="The queries by this model; without, documents ask.")]
Judged = Annotated[
    Path | None,
    Option(
        "--judgements",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help='Which documents answer a query: JSON {"query": ["document"]}, or the lines of TREC or BEIR.',
    ),
]
Maps = Annotated[
    list[str] | None,
    Option("--map", metavar="KIND[:OPTION=VALUE,...]", help="A map to try. Repeatable; `none` tries none."),
]


@dataclass(frozen=True)
class Asking:
    """Files of who asks the documents, and of which answers are right."""

    queries_old: Queries = None
    queries_new: Queries = None
    judgements: Judged = None


@dataclass(frozen=True)
class Counting:
    """What is counted: neighbours, of which layers, of which rows."""

    k: Annotated[int, Option("--k", min=1, help="Neighbours that are counted.")] = 10
    layers: Annotated[
        list[str] | None, Option(metavar="last|NAME", help="The layer compared; old=... and new=... for one model.")
    ] = None
    pairing: Pairing = "row"


@dataclass(frozen=True)
class LabelFiles:
    """Files of ids and groups of the documents, and of ids of the queries."""

    ids_old: ColumnFile = None
    ids_new: ColumnFile = None
    groups: ColumnFile = None
    query_ids_old: ColumnFile = None
    query_ids_new: ColumnFile = None


@dataclass(frozen=True)
class Judging:
    """How many are asked, and what the verdict takes."""

    sample: Annotated[int, Option(help="Documents and queries that ask, at most.")] = 1000
    worst: Annotated[int, Option(help="Items listed that changed most.")] = 10
    test_share: Annotated[float, Option(help="Share of the documents that no map is fitted on.")] = 0.2
    keep: Annotated[float, Option(help="What new queries must retain as they are, for the verdict keep.")] = 0.95
    adapt: Annotated[float, Option(help="What they must retain through a map, for the verdict adapt.")] = 0.9
    level: Annotated[float, Option(help="Level of the intervals.")] = 0.95
    seed: Seed = 0


@dataclass(frozen=True)
class Inputs:
    """Files or ids, and what is said of their rows.

    Attributes
    ----------
    documents, queries : by the old and by the new model
    """

    documents: Pair
    queries: Pair | None
    judgements: Judgements | None
    ids: tuple[Labels, Labels]
    groups: Labels
    query_ids: tuple[Labels, Labels]

    @classmethod
    def read(cls, documents: Pair, asking: Asking, labels: LabelFiles) -> Self:
        """With what the files hold; InvalidRequest for the queries of one model alone."""
        return cls(
            documents,
            _both(asking.queries_old, asking.queries_new),
            None if asking.judgements is None else read_judgements(asking.judgements),
            ids=(read_optional(labels.ids_old, "ids_old"), read_optional(labels.ids_new, "ids_new")),
            groups=read_optional(labels.groups, "groups"),
            query_ids=(
                read_optional(labels.query_ids_old, "query_ids_old"),
                read_optional(labels.query_ids_new, "query_ids_new"),
            ),
        )


def _both(old: str | None, new: str | None) -> Pair | None:
    if (old is None) != (new is None):
        raise InvalidRequest(
            "Queries are needed by both models.", hint="Give --queries-old and --queries-new, or neither."
        )
    return None if old is None or new is None else (old, new)


def read_upgrade_options(counting: Counting, judging: Judging, maps: Sequence[str] | None) -> UpgradeOptions:
    """The contract's options; InvalidRequest says which word cannot be used."""
    body = {
        "k": counting.k,
        "layers": _parse_layers(counting.layers or ()),
        "pairing": counting.pairing,
        "sample": judging.sample,
        "worst": judging.worst,
        "test_share": judging.test_share,
        "thresholds": {"keep": judging.keep, "adapt": judging.adapt},
        "level": judging.level,
        "seed": judging.seed,
    }
    tried = {} if maps is None else {"maps": [parse_map(word) for word in maps if word != "none"]}
    return options_of(UpgradeOptions, None, body | tried)


def _parse_layers(words: Sequence[str]) -> dict[str, str]:
    """A name for both models, or for one after `old=` or `new=`; what comes later wins."""
    chosen = {"old": "last", "new": "last"}
    for word in words:
        model, equals, name = word.partition("=")
        chosen |= {model: name} if equals and model in chosen else dict.fromkeys(chosen, word)
    return chosen
