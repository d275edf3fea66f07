"""`consilience study MODEL... [--against MODEL]...`: the alignment of many models at once."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Group, RenderableType
from rich.text import Text
from typer import Argument, Option

from consilience.cli.errors import require_extra
from consilience.cli.options import (
    Json,
    MemoryBudget,
    MetricOptions,
    SearchOptions,
    ServiceOptions,
    output_file_option,
    read_scoring_options,
    with_option_groups,
)
from consilience.cli.output import (
    MISSING,
    check_suffix,
    document_json,
    format_number,
    metric_label,
    new_table,
    print_document,
    write_file,
)
from consilience.cli.parsing import as_list, parse_options
from consilience.cli.remote import connect, local_work, progress_bar, wait_for_document
from consilience.cli.score import check_source
from consilience.client.bodies import EMBEDDING_ID, name_of
from consilience.client.operations import options_of
from consilience.contract.alignments import ScoringOptions
from consilience.contract.studies import StudyOptions
from consilience.contract.study_results import (
    TABLE,
    Association,
    DifferenceResult,
    FactorResult,
    StudyCell,
    StudyDocument,
    StudyMatrix,
    TrendResult,
)
from consilience.errors import InputError, InvalidRequest

#: Largest number of columns and rows of a matrix that are printed.
MAX_COLUMNS, MAX_ROWS = 6, 40
CellsByPair = dict[tuple[str, str], StudyCell]


def study_table(document: StudyDocument) -> RenderableType:
    """Tables of the matrices, and a line for each result about all models."""
    facts = {
        **{_trend_name(each): _trend(each) for each in document.trends},
        **{f"{each.factor.by} ({each.metric})": _factor(each) for each in document.factors},
        **{_difference_name(each): _difference(each) for each in document.differences},
        **{f"{each.first} and {each.second}": f"agree: {_association(each.spearman)}" for each in document.agreement},
    }
    heading = Text(_heading(document), "bold")
    lines = (Text(f"{name}: {fact}") for name, fact in facts.items())
    return Group(heading, *(_matrix(document, each) for each in document.matrices), *lines)


def _heading(document: StudyDocument) -> str:
    rows, columns = len(document.rows), len(document.columns)
    shape = f"{rows} models" if document.square else f"{rows} by {columns} models"
    return f"{shape}, {document.done} of {document.total} cells"


def _matrix(document: StudyDocument, matrix: StudyMatrix) -> RenderableType:
    cells = {(cell.row, cell.column): cell for cell in matrix.cells}
    labels = [member.label for member in document.columns]
    table = new_table("", *labels[:MAX_COLUMNS], left=("",))
    for member in document.rows[:MAX_ROWS]:
        row = [_find(document, cells, member.label, column) for column in labels]
        table.add_row(
            member.label, *(MISSING if cell is None else format_number(cell.value) for cell in row[:MAX_COLUMNS])
        )
    more = (
        [Text(f"{len(labels) - MAX_COLUMNS} more columns are in the output of --out and --json", "dim")]
        if len(labels) > MAX_COLUMNS
        else []
    )
    order = [Text(f"dendrogram order: {', '.join(matrix.dendrogram_order)}")] if matrix.dendrogram_order else []
    return Group(Text(metric_label(matrix.metric, matrix.options), "bold"), table, *more, *order)


def _find(document: StudyDocument, cells: CellsByPair, row: str, column: str) -> StudyCell | None:
    """Return the cell of two models; in a square study, in either order."""
    return cells.get((row, column)) or (cells.get((column, row)) if document.square else None)


def _trend_name(result: TrendResult) -> str:
    against = "" if result.trend.reference is None else f" against {result.trend.reference}"
    return f"{result.trend.by}{against} ({result.metric})"


def _trend(result: TrendResult) -> str:
    if result.reason is not None:
        return f"undefined: {result.reason.detail}"
    parts = [f"Spearman {_association(result.spearman)}", f"Pearson {_association(result.pearson)}"]
    if result.trend.covariates:
        parts.append(
            f"Spearman controlling for {', '.join(result.trend.covariates)} {_association(result.partial_spearman)}"
        )
    return "; ".join(parts)


def _association(result: Association | None) -> str:
    if result is None:
        return "undefined"
    interval = "" if result.low is None or result.high is None else f" [{result.low:.2f}, {result.high:.2f}]"
    return f"{result.value:.3f}{interval}, p {result.p_value:.2g}, n {result.n}"


def _factor(result: FactorResult) -> str:
    if result.reason is not None:
        return f"undefined: {result.reason.detail}"
    means = ", ".join(f"{level:g}: {mean:.3f}" for level, mean in zip(result.levels, result.means, strict=True))
    return f"{means}; mean rank correlation {result.value:.2f}, p {result.p_value:.2g} ({result.test})"


def _difference_name(result: DifferenceResult) -> str:
    models = result.difference
    return f"{models.first} - {models.second}, relative to {models.reference} ({result.metric})"


def _difference(result: DifferenceResult) -> str:
    if result.value is None:
        return f"undefined: {result.reason.detail}" if result.reason else "undefined"
    if result.interval is None:
        return f"{result.value:+.4f}, no interval: {result.reason.detail}" if result.reason else f"{result.value:+.4f}"
    return f"{result.value:+.4f} [{result.interval.low:+.4f}, {result.interval.high:+.4f}]"


#: Options of --trend and of --factor after the key.
TREND_OPTIONS = ("side", "reference", "value", "covariates", "bins", "level")
FACTOR_OPTIONS = ("side", "within", "value", "alternative", "independent")
_LABELLED = re.compile(r"([A-Za-z0-9][A-Za-z0-9 ._:@+-]*)=(.+)", re.DOTALL)


def parse_models(words: Sequence[str]) -> dict[str, str]:
    """Parse models: `LABEL=FILE`, or a file or an id, whose name becomes the label.

    Raises
    ------
    InvalidRequest
        Two models have the same label.
    """
    models: dict[str, str] = {}
    for word in words:
        match = None if Path(word).exists() else _LABELLED.fullmatch(word)
        label, source = (match[1], match[2]) if match else (_label(word), word)
        if label in models:
            raise InvalidRequest(
                f"Two models have the label {label}.", value=label, hint=f"Give one another label: LABEL={source}."
            )
        models[label] = source
    return models


def _label(word: str) -> str:
    return word if re.fullmatch(EMBEDDING_ID, word) else name_of(word)


def parse_trend(word: str) -> dict[str, Any]:
    """Parse --trend, such as `params`, `params:side=columns,bins=4` or `loss:reference=dinov2,covariates=width`."""
    key, _, options = word.partition(":")
    choice = {"by": key, **parse_options(options, TREND_OPTIONS, owner="--trend")}
    if "covariates" in choice:
        choice["covariates"] = as_list(choice["covariates"])
    return choice


def parse_factor(word: str) -> dict[str, Any]:
    """Parse --factor, such as `words` or `words:within=model,alternative=two_sided`."""
    key, _, options = word.partition(":")
    return {"by": key, **parse_options(options, FACTOR_OPTIONS, owner="--factor")}


def parse_difference(word: str) -> dict[str, str]:
    """Parse --difference: `FIRST,SECOND,REFERENCE`."""
    labels = word.split(",")
    if len(labels) != 3:
        raise InvalidRequest(f"--difference needs three labels, FIRST,SECOND,REFERENCE; got {word!r}.", value=word)
    return dict(zip(("first", "second", "reference"), labels, strict=True))


def read_metadata(file: Path | None) -> dict[str, Mapping[str, Any]]:
    """Read the metadata of the models: a JSON object with an object for each label.

    Raises
    ------
    InputError
        The file cannot be read, or has another form.
    """
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON: {error}.", value=file) from error
    if not isinstance(content, dict) or not all(isinstance(each, dict) for each in content.values()):
        raise InputError(
            f"{file} must contain a JSON object with an object for each label.",
            value=file,
            hint='Write {"LABEL": {"params": 1e9}, ...}.',
        )
    return content


ModelSources = Mapping[str, str]
Metadata = Mapping[str, Mapping[str, Any]]

#: Suffixes of the file of --out, which choose its format.
SUFFIXES = (".json", ".csv", ".parquet")


def compute_study(
    rows: ModelSources,
    columns: ModelSources | None,
    options: StudyOptions,
    metadata: Metadata,
    service: ServiceOptions,
) -> StudyDocument:
    """Compute the study of files in this process, or of files or stored sets on a service."""
    for source in (*rows.values(), *(columns or {}).values()):
        check_source(source, service.server)
    if service.server is None:
        return _study_locally(rows, columns, options, metadata, service.timeout)
    return _study_on_service(rows, columns, options, metadata, service.server, service.timeout)


def _study_locally(
    rows: ModelSources, columns: ModelSources | None, options: StudyOptions, metadata: Metadata, timeout_s: float | None
) -> StudyDocument:
    with require_extra("compute", "A study in this process"):
        from consilience.studies.local import study  # noqa: PLC0415 -- numpy and faiss load only for local work
    own_metadata = {label: dict(values) for label, values in metadata.items()}
    with local_work("reading", timeout_s) as report:
        return study(
            _paths(rows), None if columns is None else _paths(columns), options, metadata=own_metadata, report=report
        )


def _paths(models: ModelSources) -> dict[str, object]:
    return {label: Path(source) for label, source in models.items()}


def _study_on_service(  # noqa: PLR0917 - the arguments of the command, in their order
    rows: ModelSources,
    columns: ModelSources | None,
    options: StudyOptions,
    metadata: Metadata,
    server: str,
    timeout_s: float | None,
) -> StudyDocument:
    with connect(server) as client, progress_bar("uploading") as report:
        pending = client.study(rows, columns, options, metadata=metadata)
        return wait_for_document(client, pending.id, StudyDocument, report, timeout_s)


def write_study(document: StudyDocument, out: Path) -> None:
    """Write a study to a file: a table as CSV or Parquet, or the whole document as JSON, by the suffix.

    Raises
    ------
    InputError
        The file cannot be written.
    MissingExtra
        The file is Parquet and pyarrow is not installed.
    """
    from consilience.formats.records import write_csv, write_parquet  # noqa: PLC0415 -- only for files

    writers = {".csv": write_csv, ".parquet": write_parquet}
    if (writer := writers.get(out.suffix.lower())) is not None:
        content = writer(TABLE, document.table())
    else:
        content = document_json(document).encode() + b"\n"
    write_file(out, content)


Trends = Annotated[
    list[str] | None,
    Option(
        "--trend",
        metavar="KEY[:OPTION=VALUE,...]",
        help="Test whether alignment rises with a number in the models' metadata, or with width or depth. Repeatable.",
    ),
]
Factors = Annotated[
    list[str] | None,
    Option(
        "--factor",
        metavar="KEY[:OPTION=VALUE,...]",
        help="Test whether alignment rises over the ordered levels of a factor in the metadata. Repeatable.",
    ),
]
Differences = Annotated[
    list[str] | None,
    Option(
        "--difference",
        metavar="FIRST,SECOND,REFERENCE",
        help="Compare how strongly two models align with a reference model, by their labels. Repeatable.",
    ),
]
Against = Annotated[
    list[str] | None,
    Option(
        "--against",
        metavar="[LABEL=]MODEL",
        help="Model of the columns: each MODEL is compared with these and not with the others. Repeatable.",
    ),
]
MetadataFile = Annotated[
    Path | None,
    Option(
        "--metadata",
        metavar="FILE",
        dir_okay=False,
        help='JSON file with numbers of the models: {"LABEL": {"params": 1e9}, ...}.',
    ),
]
UmapFlag = Annotated[bool, Option("--umap", help="Compute 2-D coordinates of the models with UMAP, too.")]
IntervalFlag = Annotated[
    bool, Option("--interval/--no-interval", help="Compute a confidence interval for each score, or none.")
]
StudyOutput = Annotated[
    Path | None,
    output_file_option("File to write the study to: a table as .csv or .parquet, or the whole document as .json."),
]


@dataclass(frozen=True)
class AnalysisOptions:
    """Analyses over all models of a study."""

    trend: Trends = None
    factor: Factors = None
    difference: Differences = None
    umap: UmapFlag = False


def read_study_options(scoring: ScoringOptions, analyses: AnalysisOptions, *, interval: bool) -> StudyOptions:
    """Build the study options of the contract; InvalidRequest names the option of an invalid value."""
    fields: dict[str, Any] = {name: getattr(scoring, name) for name in scoring.model_fields_set}
    fields |= {
        "trends": [parse_trend(word) for word in analyses.trend or ()],
        "factors": [parse_factor(word) for word in analyses.factor or ()],
        "differences": [parse_difference(word) for word in analyses.difference or ()],
        "umap": analyses.umap,
    }
    if not interval:
        fields["interval"] = None
    return options_of(StudyOptions, None, fields)


ModelArguments = Annotated[
    list[str], Argument(metavar="[LABEL=]MODEL...", help="Embedding sets of the models: files; with --server also ids.")
]


@with_option_groups
def study(
    models: ModelArguments,
    *,
    against: Against = None,
    metadata: MetadataFile = None,
    analyses: AnalysisOptions,
    metrics: MetricOptions,
    interval: IntervalFlag = True,
    search: SearchOptions,
    memory_budget: MemoryBudget = None,
    out: StudyOutput = None,
    as_json: Json = False,
    service: ServiceOptions,
) -> None:
    """Compare many embedding spaces with each other, or with the models given by --against."""
    check_suffix(out, SUFFIXES)
    scoring = read_scoring_options(metrics, search, memory_budget=memory_budget)
    options = read_study_options(scoring, analyses, interval=interval)
    columns = None if against is None else parse_models(against)
    document = compute_study(parse_models(models), columns, options, read_metadata(metadata), service)
    print_document(document, study_table, as_json=as_json)
    if out is not None:
        write_study(document, out)
