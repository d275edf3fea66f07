"""`consilience study MODEL... [--against MODEL]...`."""

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

#: Columns of a matrix that fit beside each other in 80 columns, and rows that a person reads.
MAX_COLUMNS, MAX_ROWS = 6, 40
CellsByPair = dict[tuple[str, str], StudyCell]


def study_table(document: StudyDocument) -> RenderableType:
    """Every matrix, and what the study says of all models."""
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
    across = [member.label for member in document.columns]
    table = new_table("", *across[:MAX_COLUMNS], left=("",))
    for member in document.rows[:MAX_ROWS]:
        found = [_find(document, cells, member.label, column) for column in across]
        table.add_row(
            member.label, *(MISSING if cell is None else format_number(cell.value) for cell in found[:MAX_COLUMNS])
        )
    more = (
        [Text(f"and {len(across) - MAX_COLUMNS} more columns: see --out or --json", "dim")]
        if len(across) > MAX_COLUMNS
        else []
    )
    order = [Text(f"along a dendrogram: {', '.join(matrix.dendrogram_order)}")] if matrix.dendrogram_order else []
    return Group(Text(metric_label(matrix.metric, matrix.options), "bold"), table, *more, *order)


def _find(document: StudyDocument, cells: CellsByPair, row: str, column: str) -> StudyCell | None:
    """The cell of two models; of models with each other, whichever way round it is."""
    return cells.get((row, column)) or (cells.get((column, row)) if document.square else None)


def _trend_name(result: TrendResult) -> str:
    against = "" if result.trend.reference is None else f" against {result.trend.reference}"
    return f"{result.trend.by}{against} ({result.metric})"


def _trend(result: TrendResult) -> str:
    if result.reason is not None:
        return f"undefined: {result.reason.detail}"
    words = [f"Spearman {_association(result.spearman)}", f"Pearson {_association(result.pearson)}"]
    if result.trend.covariates:
        words.append(f"Spearman at fixed {', '.join(result.trend.covariates)} {_association(result.partial_spearman)}")
    return "; ".join(words)


def _association(found: Association | None) -> str:
    if found is None:
        return "undefined"
    span = "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.value:.3f}{span}, p {found.p_value:.2g}, n {found.n}"


def _factor(result: FactorResult) -> str:
    if result.reason is not None:
        return f"undefined: {result.reason.detail}"
    means = ", ".join(f"{level:g}: {mean:.3f}" for level, mean in zip(result.levels, result.means, strict=True))
    return f"{means}; mean rank correlation {result.value:.2f}, p {result.p_value:.2g} ({result.test})"


def _difference_name(result: DifferenceResult) -> str:
    asked = result.difference
    return f"{asked.first} - {asked.second}, to {asked.reference} ({result.metric})"


def _difference(result: DifferenceResult) -> str:
    if result.value is None:
        return f"undefined: {result.reason.detail}" if result.reason else "undefined"
    if result.interval is None:
        return f"{result.value:+.4f}, no interval: {result.reason.detail}" if result.reason else f"{result.value:+.4f}"
    return f"{result.value:+.4f} [{result.interval.low:+.4f}, {result.interval.high:+.4f}]"


#: What each kind of question can be told after its key, and which of it are lists or numbers.
TREND = ("of", "reference", "value", "covariates", "bins", "level")
FACTOR = ("of", "within", "value", "alternative", "independent")
_LABELLED = re.compile(r"([A-Za-z0-9][A-Za-z0-9 ._:@+-]*)=(.+)", re.DOTALL)


def parse_models(words: Sequence[str]) -> dict[str, str]:
    """`LABEL=FILE`, or a file or an id alone, which is called by its name.

    Raises
    ------
    InvalidRequest
        Two are called the same.
    """
    models: dict[str, str] = {}
    for word in words:
        found = None if Path(word).exists() else _LABELLED.fullmatch(word)
        label, source = (found[1], found[2]) if found else (_label(word), word)
        if label in models:
            raise InvalidRequest(
                f"Two models are called {label}.", value=label, hint=f"Write another label before one: NAME={source}."
            )
        models[label] = source
    return models


def _label(word: str) -> str:
    return word if re.fullmatch(EMBEDDING_ID, word) else name_of(word)


def parse_trend(word: str) -> dict[str, Any]:
    """`params`, `params:of=columns,bins=4`, `loss:against=dinov2,covariates=width`."""
    choice = _parse(word, TREND)
    if "covariates" in choice:
        choice["covariates"] = _many(choice["covariates"])
    return choice


def parse_factor(word: str) -> dict[str, Any]:
    """`words`, `words:within=model,alternative=two_sided`."""
    return _parse(word, FACTOR)


def parse_difference(word: str) -> dict[str, str]:
    """`FIRST,SECOND,REFERENCE`."""
    names = word.split(",")
    if len(names) != 3:
        raise InvalidRequest(f"{word!r} is no difference.", value=word, hint="Write FIRST,SECOND,REFERENCE.")
    return dict(zip(("first", "second", "reference"), names, strict=True))


def _parse(word: str, allowed: Sequence[str]) -> dict[str, Any]:
    key, _, options = word.partition(":")
    choice: dict[str, Any] = {"by": key}
    for part in filter(None, options.split(",")):
        name, equals, text = part.partition("=")
        if name not in allowed or not equals:
            raise InvalidRequest(
                f"There is no option {name!r} here.",
                value=part,
                hint=f"There are: {', '.join(allowed)}, each with =VALUE.",
            )
        choice[name] = [*_many(choice[name]), _value(text)] if name in choice else _value(text)
    return choice


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_metadata(file: Path | None) -> dict[str, Mapping[str, Any]]:
    """A JSON object with an object for each label.

    Raises
    ------
    InputError
        The file cannot be read as that.
    """
    if file is None:
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON: {error}.", value=file) from error
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise InputError(f"{file} is no object of objects.", value=file, hint='Write {"LABEL": {"params": 1e9}, ...}.')
    return found


ModelSources = Mapping[str, str]
Metadata = Mapping[str, Mapping[str, Any]]

#: Forms of a study by the ending of a file's name.
SUFFIXES = (".json", ".csv", ".parquet")


def compute_study(
    rows: ModelSources,
    columns: ModelSources | None,
    options: StudyOptions,
    metadata: Metadata,
    service: ServiceOptions,
) -> StudyDocument:
    """The study of files, or of stored sets where there is a server."""
    for source in (*rows.values(), *(columns or {}).values()):
        check_source(source, service.server)
    if service.server is None:
        return _study_locally(rows, columns, options, metadata, service.timeout)
    return _study_on_service(rows, columns, options, metadata, service.server, service.timeout)


def _study_locally(
    rows: ModelSources, columns: ModelSources | None, options: StudyOptions, metadata: Metadata, timeout_s: float | None
) -> StudyDocument:
    with require_extra("compute", "A study in this process"):
        from consilience.studies.local import study  # noqa: PLC0415 -- numpy and faiss, only for those who score here
    known = {label: dict(values) for label, values in metadata.items()}
    with local_work("reading", timeout_s) as report:
        return study(_paths(rows), None if columns is None else _paths(columns), options, metadata=known, report=report)


def _paths(models: ModelSources) -> dict[str, object]:
    return {label: Path(source) for label, source in models.items()}


def _study_on_service(  # noqa: PLR0917 - what the command has read, in its order
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
    """Into a file: a table as CSV or Parquet, or the whole document as JSON, by its suffix.

    Raises
    ------
    InputError
        It cannot be written.
    MissingExtra
        Parquet, and its library is not installed.
    """
    from consilience.formats.records import write_csv, write_parquet  # noqa: PLC0415 -- only for those who write

    writers = {".csv": write_csv, ".parquet": write_parquet}
    if (form := writers.get(out.suffix.lower())) is not None:
        content = form(TABLE, document.table())
    else:
        content = document_json(document).encode() + b"\n"
    write_file(out, content)


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
UmapFlag = Annotated[bool, Option("--umap", help="Also place the models by UMAP.")]
IntervalFlag = Annotated[bool, Option("--interval/--no-interval", help="Whether cells have intervals.")]
StudyOutput = Annotated[
    Path | None,
    output_file_option("Write it here: .csv, .parquet, or the whole as JSON."),
]


@dataclass(frozen=True)
class AnalysisOptions:
    """What a study asks of all its models together."""

    trend: Trends = None
    factor: Factors = None
    difference: Differences = None
    umap: UmapFlag = False


def read_study_options(scoring: ScoringOptions, questions: AnalysisOptions, *, interval: bool) -> StudyOptions:
    """The contract's options; InvalidRequest says which word cannot be used."""
    asked: dict[str, Any] = {
        "trends": [parse_trend(word) for word in questions.trend or ()],
        "factors": [parse_factor(word) for word in questions.factor or ()],
        "differences": [parse_difference(word) for word in questions.difference or ()],
        "umap": questions.umap,
        **({} if interval else {"interval": None}),
    }
    return options_of(StudyOptions, None, {name: getattr(scoring, name) for name in scoring.model_fields_set} | asked)


ModelArguments = Annotated[list[str], Argument(metavar="[LABEL=]MODEL...", help="Files; with --server also ids.")]


@with_option_groups
def study(
    models: ModelArguments,
    *,
    against: Against = None,
    metadata: MetadataFile = None,
    questions: AnalysisOptions,
    measures: MetricOptions,
    interval: IntervalFlag = True,
    search: SearchOptions,
    memory_budget: MemoryBudget = None,
    out: StudyOutput = None,
    as_json: Json = False,
    service: ServiceOptions,
) -> None:
    """Compare many embedding spaces: with each other, or with those given by --against."""
    check_suffix(out, SUFFIXES)
    scoring = read_scoring_options(measures, search, memory_budget=memory_budget)
    options = read_study_options(scoring, questions, interval=interval)
    columns = None if against is None else parse_models(against)
    document = compute_study(parse_models(models), columns, options, read_metadata(metadata), service)
    print_document(document, study_table, as_json=as_json)
    if out is not None:
        write_study(document, out)
