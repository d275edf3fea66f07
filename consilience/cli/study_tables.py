"""A study as tables that fit a terminal."""

from rich.console import Group, RenderableType
from rich.text import Text

from consilience.cli.numbers import ABSENT, figure, metric_label
from consilience.cli.tables import new_table
from consilience.contract.study_results import (
    Association,
    DifferenceResult,
    FactorResult,
    StudyCell,
    StudyDocument,
    StudyMatrix,
    TrendResult,
)

#: Columns of a matrix that fit beside each other in 80 columns, and rows that a person reads.
COLUMNS, ROWS = 6, 40
Cells = dict[tuple[str, str], StudyCell]


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
    table = new_table("", *across[:COLUMNS], left=("",))
    for member in document.rows[:ROWS]:
        found = [_find(document, cells, member.label, column) for column in across]
        table.add_row(member.label, *(ABSENT if cell is None else figure(cell.value) for cell in found[:COLUMNS]))
    more = (
        [Text(f"and {len(across) - COLUMNS} more columns: see --out or --json", "dim")] if len(across) > COLUMNS else []
    )
    order = [Text(f"along a dendrogram: {', '.join(matrix.order)}")] if matrix.order else []
    return Group(Text(metric_label(matrix.metric, matrix.options), "bold"), table, *more, *order)


def _find(document: StudyDocument, cells: Cells, row: str, column: str) -> StudyCell | None:
    """The cell of two models; of models with each other, whichever way round it is."""
    return cells.get((row, column)) or (cells.get((column, row)) if document.square else None)


def _trend_name(result: TrendResult) -> str:
    against = "" if result.trend.against is None else f" against {result.trend.against}"
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
