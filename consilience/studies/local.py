"""Studies of arrays and files, without a service."""

from collections.abc import Mapping
from typing import Any

from consilience.contract.base import Metadata
from consilience.contract.studies import StudyOptions
from consilience.contract.study_results import StudyDocument
from consilience.errors import InvalidRequest
from consilience.metrics.comparison import FreshGraphs, Report
from consilience.planning.alignments import CostLimits
from consilience.planning.studies import plan_study
from consilience.scoring import ignore_progress, open_source
from consilience.studies.running import Model, Models, run_study


def study(
    rows: Mapping[str, object],
    columns: Mapping[str, object] | None = None,
    options: StudyOptions | None = None,
    *,
    metadata: Mapping[str, Metadata] | None = None,
    device: str = "cpu",
    report: Report = ignore_progress,
    **fields: Any,
) -> StudyDocument:
    """Compare many embedding spaces: all rows with all columns, or with each other.

    Parameters
    ----------
    rows, columns : mappings of label to array, mapping of arrays, or path
        Each as `scoring.score` takes a side; all of the same items in the same order.
    options : StudyOptions, optional
        Or its fields as keywords: ``study(rows, metrics=["mutual_knn"], layers="all", trends=[{"by": "params"}])``.
    metadata : mapping of label to mapping, optional
        Numbers of each model that trends and factors ask for.
    device, report : as in `scoring.score`

    Returns
    -------
    StudyDocument
        A matrix for each metric, its cells with what a pair's own document would say.

    Raises
    ------
    pydantic.ValidationError
        An option that is not one.
    InputError
        What cannot be compared, with the labels.

    Examples
    --------
    >>> import numpy as np
    >>> shared, rng = np.random.default_rng(0).normal(size=(100, 8)), np.random.default_rng(1)
    >>> models = {f"noise {noise}": shared + noise * rng.normal(size=(100, 8)) for noise in (0.1, 0.2, 5.0)}
    >>> found = study(models, metrics="mutual_knn", interval=None)
    >>> [round(cell.value, 1) for cell in found.matrices[0].cells]
    [0.7, 0.1, 0.1]
    """
    chosen = options if options is not None else StudyOptions.model_validate(fields)
    known = metadata or {}
    if strangers := known.keys() - rows.keys() - (columns or {}).keys():
        raise InvalidRequest(f"There is metadata of {min(strangers)}, which is no model here.", value=min(strangers))
    models = Models(
        [_open(label, value, known) for label, value in rows.items()],
        None if columns is None else [_open(label, value, known) for label, value in columns.items()],
    )
    if models.columns is None and len(models.rows) < 2:
        raise InvalidRequest("A study needs two models at least: a study of one has no cell.", value=len(models.rows))
    plan_study(chosen, models.describe(), CostLimits(bytes=chosen.memory_budget_bytes))
    return run_study(chosen, models, FreshGraphs(), report, device=device)


def _open(label: str, value: object, metadata: Mapping[str, Metadata]) -> Model:
    return Model(label, open_source(value, label), metadata.get(label, {}))
