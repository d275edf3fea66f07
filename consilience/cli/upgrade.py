"""`consilience upgrade OLD NEW`: whether an index can be kept when its embedding model changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from typer import Option

from consilience.cli.errors import require_extra
from consilience.cli.options import (
    FOR_GROUPS,
    FOR_PAIRING,
    Json,
    Pairing,
    Seed,
    ServiceOptions,
    label_file_option,
    output_file_option,
    with_option_groups,
)
from consilience.cli.output import (
    MISSING,
    check_suffix,
    document_json,
    format_number,
    new_table,
    parse_threshold,
    passed_label,
    print_document,
    print_warning,
    report_thresholds,
    write_file,
)
from consilience.cli.parsing import Labels, Qrels, parse_map, read_optional_column, read_qrels
from consilience.cli.remote import connect, local_work, progress_bar, wait_for_document
from consilience.cli.score import check_source, upload_with_labels
from consilience.client.operations import options_of
from consilience.contract.maps import MeanShare
from consilience.contract.pointers import describe_unknown
from consilience.contract.upgrades import UpgradeOptions, UpgradeReport, ValueWithInterval
from consilience.errors import InvalidRequest
from consilience.upgrades.rendering import report_title, to_html, to_markdown

#: Metrics of the whole report, and of each strategy.
REPORT_METRICS, STRATEGY_METRICS = ("agreement", "improvement"), ("recall", "relevant_recall", "retained", "gain")


@dataclass(frozen=True)
class ReportThreshold:
    """Minimum of a metric of the report or of a strategy; without a strategy, of the best one on the old index."""

    metric: str
    strategy: str | None
    value: float

    @property
    def label(self) -> str:
        """Name of the metric, with the strategy if one was given."""
        return self.metric if self.strategy is None else f"{self.metric}:{self.strategy}"


@dataclass(frozen=True)
class ReportCheck:
    """Comparison of a value of the report with its threshold; a missing value fails."""

    threshold: ReportThreshold
    value: float | None

    @property
    def passed(self) -> bool:
        """True if the value reaches the threshold."""
        return self.value is not None and self.value >= self.threshold.value


def parse_report_threshold(word: str) -> ReportThreshold:
    """Parse `agreement=0.8`, `recall=0.9`, or with a strategy `recall:keep=0.9` or `gain:adapt:ridge=0.5`."""
    name, value = parse_threshold(word, "--min", "METRIC[:STRATEGY]", "recall=0.9")
    metric, _, strategy = name.partition(":")
    if metric not in REPORT_METRICS + STRATEGY_METRICS:
        raise InvalidRequest(describe_unknown("metric", metric, REPORT_METRICS + STRATEGY_METRICS), value=metric)
    if strategy and metric in REPORT_METRICS:
        raise InvalidRequest(
            f"The metric {metric} is of the whole report; it cannot be limited to the strategy {strategy!r}.",
            value=strategy,
            hint=f"Write {metric}=VALUE.",
        )
    return ReportThreshold(metric, strategy or None, value)


def check_report(report: UpgradeReport, thresholds: Sequence[ReportThreshold]) -> list[ReportCheck]:
    """Compare the report with each threshold.

    Raises
    ------
    InvalidRequest
        The report does not contain the strategy of a threshold.
    """
    return [ReportCheck(threshold, _find_value(report, threshold)) for threshold in thresholds]


def _find_value(report: UpgradeReport, threshold: ReportThreshold) -> float | None:
    if threshold.metric == "agreement":
        return report.agreement.shared.value
    if threshold.metric == "improvement":
        return None if report.improvement is None else report.improvement.value
    strategies = {each.name: each for each in report.strategies}
    name = threshold.strategy or report.verdict.best
    if name is None:
        return None
    if name not in strategies:
        raise InvalidRequest(describe_unknown("strategy", name, list(strategies)), value=name)
    result = getattr(strategies[name], threshold.metric)
    return None if result is None else float(result.value)


def report_check_table(checks: Sequence[ReportCheck]) -> RenderableType:
    """Table of the thresholds with the values of the report and the results of the checks."""
    table = new_table("metric", "value", "threshold", "result", left=("metric", "result"))
    for check in checks:
        threshold = check.threshold
        row = (threshold.label, format_number(check.value), f"{threshold.value:g}")
        table.add_row(*row, passed_label(passed=check.passed))
    return table


Pair = tuple[str, str]


def _queries_option(model: str) -> Any:
    return Option(
        metavar="FILE",
        help=f"Queries by the {model} model; without queries, held-out documents serve as queries. With --server also an id.",
    )


QrelsFile = Annotated[
    Path | None,
    Option(
        "--qrels",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help='Relevance judgments of the queries: JSON {"query": ["document"]}, or lines in the TREC or BEIR format.',
    ),
]
Maps = Annotated[
    list[str] | None,
    Option(
        "--map",
        metavar="KIND[:OPTION=VALUE,...]",
        help="Map to try from the new space to the old one, or `none`. Repeatable; procrustes and ridge by default.",
    ),
]


@dataclass(frozen=True)
class QueryFiles:
    """Files of the queries by both models, and of their relevance judgments."""

    queries_old: Annotated[str | None, _queries_option("old")] = None
    queries_new: Annotated[str | None, _queries_option("new")] = None
    qrels: QrelsFile = None


@dataclass(frozen=True)
class ComparisonOptions:
    """Number of results, layers and matching of rows."""

    k: Annotated[int, Option("--k", min=1, help="Number of results of each query that are compared.")] = 10
    layers: Annotated[
        list[str] | None,
        Option(metavar="last|NAME", help="Layer to compare, of both models; write old=... or new=... for one model."),
    ] = None
    pairing: Pairing = "row"


@dataclass(frozen=True)
class ItemLabelFiles:
    """Files of ids and groups of the documents, and of ids of the queries."""

    ids_old: Annotated[Path | None, label_file_option("Item ids of OLD", note=FOR_PAIRING)] = None
    ids_new: Annotated[Path | None, label_file_option("Item ids of NEW", note=FOR_PAIRING)] = None
    groups: Annotated[Path | None, label_file_option("Group labels of the items", note=FOR_GROUPS)] = None
    query_ids_old: Annotated[Path | None, label_file_option("Ids of --queries-old")] = None
    query_ids_new: Annotated[Path | None, label_file_option("Ids of --queries-new")] = None


@dataclass(frozen=True)
class VerdictOptions:
    """Sample sizes, and the thresholds of the recommendation."""

    max_queries: Annotated[int, Option(help="Maximum number of documents and of queries used as query rows.")] = 1000
    worst: Annotated[int, Option(help="Number of items to list whose neighbours change most.")] = 10
    test_share: Annotated[float, Option(help="Share of the documents that is held out from fitting the maps.")] = 0.2
    keep: Annotated[
        float, Option(help="Share of results that the old index must retain without a map to recommend `keep`.")
    ] = 0.95
    adapt: Annotated[
        float, Option(help="Share of results that the old index must retain with a map to recommend `adapt`.")
    ] = 0.9
    level: Annotated[float, Option(help="Level of the confidence intervals.")] = 0.95
    seed: Seed = 0


@dataclass(frozen=True)
class UpgradeInputs:
    """Sources of the documents and queries, and their labels.

    Attributes
    ----------
    documents, queries : files or ids, by the old and by the new model
    """

    documents: Pair
    queries: Pair | None
    qrels: Qrels | None
    ids: tuple[Labels, Labels]
    groups: Labels
    query_ids: tuple[Labels, Labels]

    @classmethod
    def read(cls, documents: Pair, queries: QueryFiles, labels: ItemLabelFiles) -> Self:
        """Read the files of labels and relevance judgments; InvalidRequest for queries by only one model."""
        return cls(
            documents,
            _check_queries(queries.queries_old, queries.queries_new),
            None if queries.qrels is None else read_qrels(queries.qrels),
            ids=(read_optional_column(labels.ids_old, "ids_old"), read_optional_column(labels.ids_new, "ids_new")),
            groups=read_optional_column(labels.groups, "groups"),
            query_ids=(
                read_optional_column(labels.query_ids_old, "query_ids_old"),
                read_optional_column(labels.query_ids_new, "query_ids_new"),
            ),
        )


def _check_queries(old: str | None, new: str | None) -> Pair | None:
    if old is not None and new is not None:
        return old, new
    if old is None and new is None:
        return None
    missing = "--queries-old" if old is None else "--queries-new"
    raise InvalidRequest(f"{missing} is missing.", hint="Give the queries by both models, or by neither.")


def read_upgrade_options(
    comparison: ComparisonOptions, verdict: VerdictOptions, maps: Sequence[str] | None
) -> UpgradeOptions:
    """Build the upgrade options of the contract; InvalidRequest names the option of an invalid value."""
    fields: dict[str, Any] = {
        "k": comparison.k,
        "layers": _parse_layers(comparison.layers or ()),
        "pairing": comparison.pairing,
        "max_queries": verdict.max_queries,
        "worst": verdict.worst,
        "test_share": verdict.test_share,
        "thresholds": {"keep": verdict.keep, "adapt": verdict.adapt},
        "level": verdict.level,
        "seed": verdict.seed,
    }
    if maps is not None:
        fields["maps"] = [parse_map(word) for word in maps if word != "none"]
    return options_of(UpgradeOptions, None, fields)


def _parse_layers(words: Sequence[str]) -> dict[str, str]:
    """Parse --layers: a name for both models, or for one after `old=` or `new=`; later values win."""
    layers = {"old": "last", "new": "last"}
    for word in words:
        model, equals, name = word.partition("=")
        layers |= {model: name} if equals and model in layers else dict.fromkeys(layers, word)
    return layers


#: Suffixes of the file of --out, which choose its format.
SUFFIXES = (".json", ".md", ".html")


def output_report(report: UpgradeReport, *, as_json: bool, out: Path | None) -> None:
    """Print a report and its warnings, and write it in the format of the file name if there is one."""
    print_document(report, report_table, as_json=as_json)
    for warning in report.warnings:
        print_warning(warning)
    if out is not None:
        formats = {".md": to_markdown, ".html": to_html}
        render = formats.get(out.suffix.lower())
        write_file(out, document_json(report) + "\n" if render is None else render(report))


def report_table(report: UpgradeReport) -> RenderableType:
    """Table of the strategies, and the recommendation."""
    has_qrels = report.improvement is not None
    extra = ["relevant\nrecall", "retained"] if has_qrels else []
    table = new_table("strategy", f"recall@{report.k}", "interval", *extra, "gain", left=("strategy",))
    for each in report.strategies:
        values = [_value(each.relevant_recall), _value(each.retained)] if has_qrels else []
        table.add_row(each.name, _value(each.recall), _interval(each.recall), *values, _value(each.gain))
    shared = report.agreement.shared
    return Group(
        Text(_heading(report), "bold"),
        table,
        Text(
            f"neighbour agreement@{report.k}: {format_number(shared.value)} {_interval(shared)}, "
            f"by chance {format_number(report.agreement.chance)}"
        ),
        Text.assemble((report.verdict.recommendation.replace("_", "-"), "bold"), f": {report.verdict.text}"),
    )


def _heading(report: UpgradeReport) -> str:
    noun = "held-out documents as queries" if report.queries.source == "documents" else "queries"
    return f"{report_title(report)}: {report.n} documents, {report.queries.used} {noun}"


def _value(estimate: MeanShare | ValueWithInterval | None) -> str:
    return MISSING if estimate is None else format_number(estimate.value)


def _interval(estimate: MeanShare) -> str:
    return f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def compute_report(inputs: UpgradeInputs, options: UpgradeOptions, service: ServiceOptions) -> UpgradeReport:
    """Compute the report on files in this process, or on files or stored sets by a service."""
    for side in (*inputs.documents, *(inputs.queries or ())):
        check_source(side, service.server)
    if service.server is None:
        return _report_locally(inputs, options, service.timeout)
    return _report_on_service(inputs, options, service.server, service.timeout)


def _report_locally(inputs: UpgradeInputs, options: UpgradeOptions, timeout_s: float | None) -> UpgradeReport:
    with require_extra("compute", "An upgrade report in this process"):
        from consilience.upgrades.api import upgrade_report  # noqa: PLC0415 -- numpy and faiss load only for local work
    old, new = map(Path, inputs.documents)
    queries = None if inputs.queries is None else (Path(inputs.queries[0]), Path(inputs.queries[1]))
    with local_work("reading", timeout_s) as progress:
        return upgrade_report(
            old,
            new,
            options,
            queries=queries,
            qrels=inputs.qrels,
            ids=inputs.ids,
            groups=(inputs.groups, None),
            query_ids=inputs.query_ids,
            progress=progress,
        )


def _report_on_service(
    inputs: UpgradeInputs, options: UpgradeOptions, server: str, timeout_s: float | None
) -> UpgradeReport:
    with connect(server) as client, progress_bar("uploading") as report:
        old, new = (
            upload_with_labels(client, side, ids, inputs.groups)
            for side, ids in zip(inputs.documents, inputs.ids, strict=True)
        )
        queries = None
        if inputs.queries is not None:
            first, second = (
                upload_with_labels(client, side, ids, None)
                for side, ids in zip(inputs.queries, inputs.query_ids, strict=True)
            )
            queries = first, second
        pending = client.upgrade(old, new, options, queries=queries, qrels=inputs.qrels)
        return wait_for_document(client, pending.id, UpgradeReport, report, timeout_s)


Old = Annotated[
    str, typer.Argument(metavar="OLD", help="Documents embedded with the old model: a file; with --server also an id.")
]
New = Annotated[str, typer.Argument(metavar="NEW", help="The same documents embedded with the new model.")]
Minimums = Annotated[
    list[str] | None,
    typer.Option(
        "--min",
        metavar="METRIC[:STRATEGY]=VALUE",
        help="Smallest allowed value of a metric of the report, for example recall=0.9. Repeatable; all must hold.",
    ),
]
Out = Annotated[Path | None, output_file_option("File to write the report to: .json, .md or .html.")]


@with_option_groups
def upgrade(
    old: Old,
    new: New,
    *,
    queries: QueryFiles,
    maps: Maps = None,
    comparison: ComparisonOptions,
    labels: ItemLabelFiles,
    verdict: VerdictOptions,
    minimums: Minimums = None,
    out: Out = None,
    as_json: Json = False,
    service: ServiceOptions,
) -> None:
    """Report what happens to an index when its embedding model changes, and recommend: keep, adapt or re-embed.

    With --min, the exit status is 1 if a metric is below its threshold. The
    metrics are agreement, improvement, recall, relevant_recall, retained and
    gain; the last four are those of the best strategy on the old index unless
    a strategy is named, for example recall:keep=0.9.
    """
    thresholds = [parse_report_threshold(word) for word in minimums or ()]
    check_suffix(out, SUFFIXES)
    options = read_upgrade_options(comparison, verdict, maps)
    report = compute_report(UpgradeInputs.read((old, new), queries, labels), options, service)
    checks = check_report(report, thresholds)
    output_report(report, as_json=as_json, out=out)
    if checks:
        report_thresholds(report_check_table(checks), (check.passed for check in checks), as_json=as_json)
