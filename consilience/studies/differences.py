"""Which of two models is nearer to a reference: both scores on the same parts of the items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from consilience.contract.jobs import IntervalChoice, Layers, ScoringOptions
from consilience.contract.metric import Metric
from consilience.contract.questions import Difference
from consilience.contract.scores import Interval, Reason
from consilience.contract.study_results import DifferenceResult, StudyCell, StudyDocument, StudyMatrix
from consilience.measures.comparison import GraphSource, Report
from consilience.measures.registry import measure
from consilience.numerics.intervals import Replicates, difference_bounds
from consilience.numerics.parts import Parts
from consilience.numerics.sources import Source
from consilience.scoring import KeepSide, open_comparison

#: Sources by side and label.
Sources = Mapping[str, Mapping[str, Source]]
SELECTED = "The interval is that of the selected layer pairs; it does not allow for the selection."


@dataclass(frozen=True)
class Comparisons:
    """How two models of a study are opened again."""

    options: ScoringOptions
    graphs: GraphSource
    report: Report
    sides: KeepSide
    parts: Parts
    device: str

    def replicate(self, metric: Metric, cell: StudyCell, sources: Sources) -> Replicates | Reason:
        """The cell's score on parts of the rows, of its best layer pair."""
        a, b = sources["rows"][cell.row], sources["columns"][cell.column]
        names = [{layer.name for layer in source.layers} for source in (a, b)]
        if cell.layer_a not in names[0] or cell.layer_b not in names[1]:
            return Reason(code="concat-layer", detail="The best layer of one of them is all layers side by side.")
        update = {
            "metrics": (metric,),
            "layers": Layers(a=(cell.layer_a,), b=(cell.layer_b,)),
            "concat": False,
            "interval": IntervalChoice(),  # lists as long as the parts need
            "estimate": "all",
        }
        options = self.options.model_copy(update=update)
        _, comparison = open_comparison(
            options, a, b, self.graphs, self.report, sides=self.sides, parts=self.parts, device=self.device
        )
        found = measure(metric, comparison).replicates
        if found is None:
            return Reason(
                code="no-paired-interval", detail=f"{metric.metric} is not had on the same parts of the rows twice."
            )
        return found(0, 0)


def compare_models(
    differences: Sequence[Difference], document: StudyDocument, comparisons: Comparisons, sources: Sources
) -> tuple[DifferenceResult, ...]:
    """Every difference under every metric."""
    singles = list(chain.from_iterable(metric.each() for metric in comparisons.options.metrics))
    return tuple(
        _compare(difference, matrix, single, comparisons, sources)
        for difference in differences
        for matrix, single in zip(document.matrices, singles, strict=True)
    )


def _compare(
    difference: Difference, matrix: StudyMatrix, metric: Metric, comparisons: Comparisons, sources: Sources
) -> DifferenceResult:
    first, second = (_find(matrix, label, difference.reference) for label in (difference.first, difference.second))
    if first.value is None or second.value is None:
        reason = first.reason or second.reason
        return DifferenceResult(metric=matrix.name, difference=difference, status="undefined", reason=reason)
    bounds = _find_bounds(difference, metric, (first, second), comparisons, sources)
    refused = isinstance(bounds, Reason)
    return DifferenceResult(
        metric=matrix.name,
        difference=difference,
        status="defined",
        reason=bounds if isinstance(bounds, Reason) else None,
        value=first.value - second.value,
        interval=bounds if isinstance(bounds, Interval) else None,
        warnings=(SELECTED,) if not refused and max(first.null.cells, second.null.cells) > 1 else (),
    )


def _find_bounds(
    difference: Difference,
    metric: Metric,
    cells: tuple[StudyCell, StudyCell],
    comparisons: Comparisons,
    sources: Sources,
) -> Interval | Reason:
    """The interval of a difference, or why it has none."""
    options, (first, second) = comparisons.options, cells
    if options.pairing == "id":
        return Reason(code="paired-by-id", detail="Paired by id, two pairs of models need not share their items.")
    if options.aggregate != "max" and max(first.null.cells, second.null.cells) > 1:
        return Reason(code="aggregate", detail=f"There is none for the aggregate {options.aggregate}.")
    if first.estimator == "estimated":
        return Reason(code="query-subset", detail="It needs the neighbours of every row, and only some asked.")
    of_first, of_second = (comparisons.replicate(metric, cell, sources) for cell in cells)
    for found in (of_first, of_second):
        if isinstance(found, Reason):
            return found
    if not isinstance(of_first, Replicates) or not isinstance(of_second, Replicates):
        raise TypeError("replicates are Replicates or a Reason")
    values = first.value or 0.0, second.value or 0.0
    bounds = difference_bounds(*values, (of_first, of_second), difference.level)
    if bounds is None:
        return Reason(code="undefined-without-some-rows", detail="Leaving out some rows makes a score undefined.")
    return Interval(low=bounds.low, high=bounds.high, level=difference.level, target="population", method=bounds.method)


def _find(matrix: StudyMatrix, row: str, column: str) -> StudyCell:
    """The cell of two models; of one triangle, whichever way round it is."""
    for cell in matrix.cells:
        if (cell.row, cell.column) == (row, column):
            return cell
    return next(cell for cell in matrix.cells if (cell.row, cell.column) == (column, row))
