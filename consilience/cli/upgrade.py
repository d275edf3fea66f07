"""`consilience upgrade OLD NEW`: what a swap of the embedding model asks of an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from typer import Option

from consilience.cli.errors import packages_of
from consilience.cli.options import ColumnFile, Json, Pairing, Seed, Service, file_to_write, unfold
from consilience.cli.output import (
    ABSENT,
    check_out,
    close_gate,
    figure,
    new_table,
    present,
    split_bar,
    to_json,
    verdict_word,
    warn,
    write,
)
from consilience.cli.parsing import Judgements, Labels, parse_map, read_judgements, read_optional
from consilience.cli.remote import await_document, connect, progress_bar, work_here
from consilience.cli.score import require_source, store
from consilience.client.operations import options_of
from consilience.contract.maps import MeanShare
from consilience.contract.upgrades import Span, UpgradeOptions, UpgradeReport, Way
from consilience.errors import InvalidRequest
from consilience.upgrades.html import title, to_html, to_markdown

#: Figures of the whole report, and of each way.
WHOLE, OF_WAYS = ("agreement", "improvement"), ("recall", "judged", "retained", "gain")


@dataclass(frozen=True)
class Bar:
    """The least value of a figure: of the report, of a way that is named, or of the best way on the old index."""

    figure: str
    way: str | None
    value: float

    @property
    def label(self) -> str:
        """As it was written."""
        return self.figure if self.way is None else f"{self.figure}:{self.way}"


@dataclass(frozen=True)
class Reached:
    """A figure against its bar. One that is absent reaches none."""

    bar: Bar
    value: float | None

    @property
    def passed(self) -> bool:
        """Whether the bar is reached."""
        return self.value is not None and self.value >= self.bar.value


def parse_bar(word: str) -> Bar:
    """`agreement=0.8`, `recall=0.9`, or of one way: `recall:keep=0.9`, `gain:adapt:ridge=0.5`."""
    name, value = split_bar(word, "recall=0.9")
    found, _, way = name.partition(":")
    if found not in WHOLE + OF_WAYS or (way and found in WHOLE):
        raise InvalidRequest(
            f"There is no figure {name!r}.",
            value=word,
            hint=f"There are {', '.join(WHOLE)}; and {', '.join(OF_WAYS)}, also of one way: recall:adapt:ridge.",
        )
    return Bar(found, way or None, value)


def judge(report: UpgradeReport, bars: Sequence[Bar]) -> list[Reached]:
    """Every bar against its figure.

    Raises
    ------
    InvalidRequest
        A way that the report does not have.
    """
    return [Reached(bar, _find_figure(report, bar)) for bar in bars]


def _find_figure(report: UpgradeReport, bar: Bar) -> float | None:
    if bar.figure == "agreement":
        return report.agreement.shared.value
    if bar.figure == "improvement":
        return None if report.improvement is None else report.improvement.value
    way = _find_way(report, bar.way)
    found = (
        None
        if way is None
        else {"recall": way.recall, "judged": way.judged, "retained": way.retained, "gain": way.gain}[bar.figure]
    )
    return None if found is None else found.value


def _find_way(report: UpgradeReport, name: str | None) -> Way | None:
    ways = {way.name: way for way in report.ways}
    if name is not None and name not in ways:
        raise InvalidRequest(f"The report has no way {name!r}.", value=name, hint=f"There are: {', '.join(ways)}.")
    wanted = name or report.verdict.best
    return None if wanted is None else ways[wanted]


def reached_table(found: Sequence[Reached]) -> RenderableType:
    """One line a bar: its figure, and whether it passed."""
    table = new_table("figure", "value", "bar", "verdict", left=("figure", "verdict"))
    for reached in found:
        table.add_row(
            reached.bar.label, figure(reached.value), f"{reached.bar.value:g}", verdict_word(passed=reached.passed)
        )
    return table


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


#: Forms of a report by the ending of a file's name.
SUFFIXES = (".json", ".md", ".html")


def show_report(report: UpgradeReport, *, as_json: bool, out: Path | None) -> None:
    """To standard output as a table, or alone as JSON; into a file too, in the form that its name asks for."""
    present(report, report_table, as_json=as_json)
    for warning in report.warnings:
        warn(warning)
    if out is not None:
        forms = {".md": to_markdown, ".html": to_html}
        form = forms.get(out.suffix.lower())
        write(out, to_json(report) + "\n" if form is None else form(report))


def report_table(report: UpgradeReport) -> RenderableType:
    """The ways with their figures, and the verdict."""
    judged = report.improvement is not None
    columns = ["way", f"recall@{report.k}", "interval", *(["judged", "retained"] if judged else []), "gain"]
    table = new_table(*columns, left=("way",))
    for way in report.ways:
        more = [_value(way.judged), _value(way.retained)] if judged else []
        table.add_row(way.name, _value(way.recall), _interval(way.recall), *more, _value(way.gain))
    shared = report.agreement.shared
    return Group(
        Text(_heading(report), "bold"),
        table,
        Text(
            f"neighbour agreement@{report.k} {figure(shared.value)} {_interval(shared)}, "
            f"by chance {figure(report.agreement.chance)}"
        ),
        Text.assemble((report.verdict.word, "bold"), f": {report.verdict.text}"),
    )


def _heading(report: UpgradeReport) -> str:
    who = "held-out documents" if report.queries.source == "documents" else "queries"
    return f"{title(report)}: {report.n} documents, {report.queries.asked} {who} asked"


def _value(found: MeanShare | Span | None) -> str:
    return ABSENT if found is None else figure(found.value)


def _interval(found: MeanShare) -> str:
    return f"[{found.low:.3f}, {found.high:.3f}]"


def obtain_report(inputs: Inputs, options: UpgradeOptions, service: Service) -> UpgradeReport:
    """The report on files, or on stored sets where there is a server."""
    for side in (*inputs.documents, *(inputs.queries or ())):
        require_source(side, service.server)
    if service.server is None:
        return _report_here(inputs, options, service.timeout)
    return _report_there(inputs, options, service.server, service.timeout)


def _report_here(inputs: Inputs, options: UpgradeOptions, timeout_s: float | None) -> UpgradeReport:
    with packages_of("compute", "An upgrade report in this process"):
        from consilience.upgrades.api import report  # noqa: PLC0415 -- numpy and faiss, only for those who compute here
    old, new = map(Path, inputs.documents)
    queries = None if inputs.queries is None else (Path(inputs.queries[0]), Path(inputs.queries[1]))
    with work_here("reading", timeout_s) as progress:
        return report(
            old,
            new,
            options,
            queries=queries,
            judgements=inputs.judgements,
            ids=inputs.ids,
            groups=(inputs.groups, None),
            query_ids=inputs.query_ids,
            progress=progress,
        )


def _report_there(inputs: Inputs, options: UpgradeOptions, server: str, timeout_s: float | None) -> UpgradeReport:
    with connect(server) as client, progress_bar("uploading") as report:
        old, new = (
            store(client, side, ids, inputs.groups) for side, ids in zip(inputs.documents, inputs.ids, strict=True)
        )
        queries = None
        if inputs.queries is not None:
            first, second = (
                store(client, side, ids, None) for side, ids in zip(inputs.queries, inputs.query_ids, strict=True)
            )
            queries = first, second
        pending = client.upgrade(old, new, options, queries=queries, judgements=inputs.judgements)
        return await_document(client, pending.id, UpgradeReport, report, timeout_s)


Old = Annotated[
    str, typer.Argument(metavar="OLD", help="The documents by the old model: a file; with --server also an id.")
]
New = Annotated[str, typer.Argument(metavar="NEW", help="The same documents by the new model.")]
Least = Annotated[
    list[str] | None,
    typer.Option("--min", metavar="NAME[:WAY]=VALUE", help="The least value of a figure. Repeatable; all must hold."),
]
Out = Annotated[Path | None, file_to_write("Write the report here: .json, .md or .html.")]


@unfold
def upgrade(
    old: Old,
    new: New,
    *,
    asking: Asking,
    maps: Maps = None,
    counting: Counting,
    labels: LabelFiles,
    judging: Judging,
    least: Least = None,
    out: Out = None,
    as_json: Json = False,
    service: Service,
) -> None:
    """Say whether an index survives a swap of its embedding model: keep, adapt or re-embed.

    With --min it is a gate: status 1 where a figure is below its bar. recall, judged, retained and gain are those of the best
    way on the old index unless one is named.
    """
    bars = [parse_bar(word) for word in least or ()]
    check_out(out, SUFFIXES)
    options = read_upgrade_options(counting, judging, maps)
    report = obtain_report(Inputs.read((old, new), asking, labels), options, service)
    found = judge(report, bars)
    show_report(report, as_json=as_json, out=out)
    if found:
        close_gate(reached_table(found), (reached.passed for reached in found), as_json=as_json)
