"""Studies of arrays and files, without a service."""

from collections.abc import Mapping
from typing import Never

from consilience.contract.alignments import Aggregate
from consilience.contract.base import Metadata
from consilience.contract.keywords import (
    DEFAULT_INTERVAL,
    BuilderArgument,
    DifferencesArgument,
    EstimateArgument,
    FactorsArgument,
    IntervalArgument,
    LayersArgument,
    MetricsArgument,
    NullArgument,
    PairingArgument,
    PreparationArgument,
    TrendsArgument,
)
from consilience.contract.studies import StudyOptions
from consilience.contract.study_results import StudyDocument
from consilience.contract.validation import read_options
from consilience.errors import InvalidRequest
from consilience.metrics.comparison import Report
from consilience.metrics.graph_sources import FreshGraphs
from consilience.planning.alignments import CostLimits
from consilience.planning.studies import plan_study
from consilience.scoring import ignore_progress, open_source
from consilience.studies.running import StudyModel, StudyModels, run_study


def study(
    rows: Mapping[str, object],
    columns: Mapping[str, object] | None = None,
    options: StudyOptions | None = None,
    *,
    metrics: MetricsArgument = ("mutual_knn", "cka"),
    layers: LayersArgument = "last",
    aggregate: Aggregate = "max",
    top_k: int = 5,
    concat: bool = False,
    preparation: PreparationArgument = "l2",
    null: NullArgument = "auto",
    interval: IntervalArgument = DEFAULT_INTERVAL,
    estimate: EstimateArgument = "all",
    builder: BuilderArgument = "auto",
    memory_budget_bytes: int | None = None,
    pairing: PairingArgument = "row",
    seed: int = 0,
    trends: TrendsArgument = (),
    factors: FactorsArgument = (),
    differences: DifferencesArgument = (),
    umap: bool = False,
    metadata: Mapping[str, Metadata] | None = None,
    device: str = "cpu",
    report: Report = ignore_progress,
    **unknown: Never,
) -> StudyDocument:
    """Compare many embedding spaces: all rows with all columns, or with each other.

    Parameters
    ----------
    rows, columns : mappings of label to array, mapping of arrays, or path
        Each value as a side of `consilience.score`; all of the same items. Without columns the rows are compared with each
        other.
    options : StudyOptions, optional
        All options as one value, instead of the keyword arguments `metrics` to `umap`.
    metrics, layers, aggregate, top_k, concat, preparation, estimate, builder, memory_budget_bytes, pairing, seed
        As in `consilience.score`, for each pair of models.
    null, interval
        As in `consilience.score`. A study corrects the p-values of its cells by itself: ``correction`` is not allowed.
    trends : sequence of at most 32 mappings
        Tests whether alignment rises with a number of the models: ``{"by": "params"}``, a key of their metadata, or ``width``
        or ``depth``.
    factors : sequence of at most 32 mappings
        Tests whether alignment rises from level to level of a factor: ``{"by": "caption_length"}``.
    differences : sequence of at most 256 mappings
        Tests which of two models is nearer to a third: ``{"first": "a", "second": "b", "reference": "c"}``.
    umap : bool
        Also place the models in two dimensions by UMAP; needs the extra `studies`.
    metadata : mapping of label to mapping, optional
        Numbers of each model for trends and factors.
    device, report
        As in `consilience.score`.
    **unknown
        Always an error: no other keyword exists. The type `Never` lets a type checker report it too.

    Returns
    -------
    StudyDocument
        A matrix for each metric; each cell holds what the score document of its pair would hold.

    Raises
    ------
    InvalidOption
        A TypeError: a keyword that does not exist, or keywords beside `options`.
    InvalidRequest
        An option whose value is not allowed, with its JSON pointer.
    InputError
        Models that cannot be compared, with their labels.

    Examples
    --------
    >>> import numpy as np
    >>> shared, rng = np.random.default_rng(0).normal(size=(100, 8)), np.random.default_rng(1)
    >>> models = {f"noise {noise}": shared + noise * rng.normal(size=(100, 8)) for noise in (0.1, 0.2, 5.0)}
    >>> found = study(models, metrics="mutual_knn", interval=None)
    >>> [round(cell.value, 1) for cell in found.matrices[0].cells]
    [0.7, 0.1, 0.1]
    """
    # `metadata` describes the models; the option of this name, JSON for the document, is not a keyword here.
    chosen = read_options(StudyOptions, study, options, {**locals(), "metadata": None})
    metadata = metadata or {}
    if unknown_labels := metadata.keys() - rows.keys() - (columns or {}).keys():
        label = min(unknown_labels)
        raise InvalidRequest(
            f"`metadata` names {label!r}, but the study has no model with this label.",
            value=label,
            hint="Use the labels of `rows` and `columns`.",
        )
    models = StudyModels(
        [_open_model(label, value, metadata) for label, value in rows.items()],
        None if columns is None else [_open_model(label, value, metadata) for label, value in columns.items()],
    )
    if models.columns is None and len(models.rows) < 2:
        raise InvalidRequest(f"A study needs at least 2 models; got {len(models.rows)}.", value=len(models.rows))
    plan_study(chosen, models.describe(), CostLimits(bytes=chosen.memory_budget_bytes))
    return run_study(chosen, models, FreshGraphs(), report, device=device)


def _open_model(label: str, value: object, metadata: Mapping[str, Metadata]) -> StudyModel:
    return StudyModel(label, open_source(value, label), metadata.get(label, {}))
