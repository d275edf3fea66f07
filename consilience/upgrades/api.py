"""Upgrade reports: the effect of a new embedding model on an index of documents. `upgrade_report` is the public call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Never, TypedDict

from consilience.contract.alignments import ItemLabel
from consilience.contract.keywords import (
    DEFAULT_THRESHOLDS,
    MapsArgument,
    PairingArgument,
    ThresholdsArgument,
    UpgradeLayersArgument,
)
from consilience.contract.maps import MapOptions
from consilience.contract.pointers import at_pointer
from consilience.contract.upgrades import (
    ChangedItem,
    NeighbourAgreement,
    QuerySummary,
    Strategy,
    UpgradeOptions,
    UpgradeReport,
    ValueWithInterval,
    Verdict,
    check_qrels,
)
from consilience.contract.validation import read_options
from consilience.errors import InvalidRequest
from consilience.maps.api import ModelNames, describe_side, pick_layer
from consilience.maps.fit import TrainTestSplit, fit_warnings
from consilience.metrics.comparison import PairedSides, Report
from consilience.numerics.regression.evaluation import neighbour_recall
from consilience.numerics.rows.parallel import LOCAL_EXECUTOR, Executor
from consilience.numerics.rows.sources import SideSource
from consilience.planning.maps import check_choice, check_columns, check_k
from consilience.scoring import Columns, Stopwatch, find_versions, ignore_progress, open_source, with_columns
from consilience.upgrades.evaluation import (
    describe_agreement,
    describe_improvement,
    describe_strategies,
    list_changed,
    score_strategies,
)
from consilience.upgrades.search import QuerySet, RetrievalResults, sample_documents, search_indexes
from consilience.upgrades.sides import (
    EvaluationQueries,
    FitsByStrategy,
    QuerySources,
    choose_given_queries,
    fit_maps,
    pair_models,
    row_labels,
)
from consilience.upgrades.verdict import decide

#: Queries by the old and by the new model.
QueryPair = tuple[object, object]


@dataclass(frozen=True)
class UpgradeInput:
    """Documents, queries and judgments that a report is about.

    Attributes
    ----------
    old, new : documents by both models
    queries : queries by the old and by the new model; None: held-out documents are the queries
    qrels : relevant documents of each query, by id or row number
    models : names of the models; None if unknown
    """

    old: SideSource
    new: SideSource
    queries: tuple[SideSource, SideSource] | None = None
    qrels: Mapping[str, Sequence[ItemLabel]] | None = None
    models: ModelNames = (None, None)


def upgrade_report(
    old: object,
    new: object,
    options: UpgradeOptions | None = None,
    *,
    maps: MapsArgument = ("procrustes", "ridge"),
    k: int = 10,
    layers: UpgradeLayersArgument = "last",
    pairing: PairingArgument = "row",
    test_share: float = 0.2,
    max_queries: int = 1000,
    worst: int = 10,
    thresholds: ThresholdsArgument = DEFAULT_THRESHOLDS,
    level: float = 0.95,
    seed: int = 0,
    metadata: dict[str, Any] | None = None,
    queries: QueryPair | None = None,
    qrels: Mapping[str, Sequence[ItemLabel]] | None = None,
    ids: Columns = (None, None),
    groups: Columns = (None, None),
    query_ids: Columns = (None, None),
    models: ModelNames = (None, None),
    progress: Report = ignore_progress,
    **unknown: Never,
) -> UpgradeReport:
    """Estimate the effect of a new embedding model on an index of the old model's vectors.

    Parameters
    ----------
    old, new : array of shape (n, d), or (n, L, d), mapping of layer name to (n, d) array, or path of a file
        The documents by the old and by the new model, paired, as for `consilience.score`.
    options : UpgradeOptions, optional
        All options as one value, instead of the keyword arguments `maps` to `metadata`.
    maps : str, mapping, or sequence of at most 16 of them
        Maps to try from the new space to the old one, as for `consilience.fit_map`: ``["ridge", {"kind": "mlp"}]``.
    k : int, 1 to 1000
        Number of nearest documents that are compared.
    layers : str, or mapping with ``old`` and ``new``
        Name of the layer that is compared, of both models or of each; ``last`` for the last one.
    pairing : {"row", "id"}
        Documents are paired by position, or by `ids`.
    test_share : float, above 0 and at most 0.5
        Share of the documents (of whole groups) that no map is fitted on.
    max_queries : int, 2 to 100,000
        Largest number of documents, and of queries, that are used as queries; all documents are searched.
    worst : int, 0 to 100
        Number of items to list whose neighbours change most.
    thresholds : mapping with ``keep`` and ``adapt``
        Shares of what full re-embedding retrieves, 0.95 and 0.9 by default, that the verdicts keep and adapt need.
    level : float, above 0.5 and at most 0.999999
        Level of the confidence intervals.
    seed : int, 0 to 2**63 - 1
        Seed of everything that is random.
    metadata : dict, optional
        JSON of your own, kept in the report.
    queries : pair of arrays, mappings or paths, optional
        The queries by the old and by the new model. Without them, held-out documents are the queries.
    qrels : mapping of query to documents, optional
        Relevance judgments, the relevant documents of each query: by `query_ids` and `ids`, or by row numbers if there are no
        ids. Only queries with relevant documents are then used.
    ids, groups, query_ids : pairs of sequences, optional
        Ids of documents and of queries, and groups of documents: members of one group are not neighbours of each other.
    models : names of the old and the new model, optional
    progress : callable, optional
        Called with a stage, the work done and the work in total.
    **unknown
        Always an error: no other keyword exists. The type `Never` lets a type checker report it too.

    Returns
    -------
    UpgradeReport
        `verdict.recommendation` is keep, adapt or re_embed; `verdict.text` gives the reason.

    Raises
    ------
    InvalidOption
        A TypeError: a keyword that does not exist, or keywords beside `options`.
    InvalidRequest
        An option whose value is not allowed, with its JSON pointer.
    InputError
        Sides that cannot be compared: unpaired rows, queries of another model, judgments of unknown items, too few rows.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    >>> turned = rows @ np.linalg.qr(rows.T @ rows)[0]
    >>> found = upgrade_report(rows, turned)
    >>> found.verdict.recommendation, found.verdict.strategy
    ('adapt', 'adapt:procrustes')
    """
    chosen = read_options(UpgradeOptions, upgrade_report, options, locals())
    sides = [
        with_columns(open_source(side, name), ids[i], groups[i], name)
        for i, (side, name) in enumerate(((old, "old"), (new, "new")))
    ]
    query_sources = None
    if queries is not None:
        first, second = (
            with_columns(open_source(side, f"queries_{name}"), query_ids[i], None, f"queries_{name}")
            for i, (side, name) in enumerate(zip(queries, ("old", "new"), strict=True))
        )
        query_sources = first, second
    return report_sources(chosen, UpgradeInput(sides[0], sides[1], query_sources, qrels, models), progress)


def report_sources(
    options: UpgradeOptions, given: UpgradeInput, progress: Report, *, executor: Executor = LOCAL_EXECUTOR
) -> UpgradeReport:
    """Report on opened sides."""
    stopwatch = Stopwatch()
    with stopwatch.time("pairing"):
        sides = (
            _select_layer(given.old, options.layers.old, "old"),
            _select_layer(given.new, options.layers.new, "new"),
        )
        described = [describe_side(side, model) for side, model in zip(sides, given.models, strict=True)]
        documents = pair_models(*sides, options.pairing, "documents")
        split = _split_documents(options, documents)
        sampled, held_out = sample_documents(split, options.max_queries)
        queries = _choose_queries(options, given, documents, sampled.first(held_out), int(split.is_test.sum()))
    with stopwatch.time("fit"):
        maps = fit_maps(options.maps, split, progress, executor)
    with stopwatch.time("search"):
        found = search_indexes(
            split, sampled, queries.vectors, maps.transforms, k=options.k, executor=executor, report=progress
        )
    with stopwatch.time("figures"):
        results = _describe_results(options, split.n, found, queries, maps.fits)
    return UpgradeReport(
        old=described[0],
        new=described[1],
        n=split.n,
        n_train=len(split.train_rows),
        pairing=documents.record,
        queries=queries.summary,
        **results,
        **_list_changed(options, documents, sampled, queries, found),
        **{name: getattr(options, name) for name in ("k", "thresholds", "level", "seed", "metadata")},
        warnings=_report_warnings(options, split, documents, queries),
        versions=find_versions() | _torch_version(options),
        timings_s=stopwatch.rounded(),
    )


def _select_layer(side: SideSource, layer: str, name: str) -> SideSource:
    """Return a side with the one layer that is compared."""
    return replace(side, layers=[pick_layer(side, layer, name)])


def _split_documents(options: UpgradeOptions, documents: PairedSides) -> TrainTestSplit:
    """Split the documents into those that the maps are fitted on and the others."""
    fields = {"test_share": options.test_share, "seed": options.seed, "level": options.level}
    (old,), (new,) = documents.a.layers, documents.b.layers
    split = TrainTestSplit(new, old, MapOptions.model_validate(fields), documents.groups)
    check_k(options.k, split.n, split.largest_group)
    for number, choice in enumerate(options.maps):
        with at_pointer(f"/maps/{number}", instead="/map"):
            check_choice(choice, len(split.train_rows), new.dim, old.dim, "training rows")
    return split


def _choose_queries(
    options: UpgradeOptions, given: UpgradeInput, documents: PairedSides, held_out: QuerySet, available: int
) -> EvaluationQueries:
    """Choose the queries: those of the request, or else held-out documents."""
    try:
        check_qrels(given.qrels, queries=given.queries is not None)
    except ValueError as error:
        raise InvalidRequest(f"{error}.", pointer="/qrels") from error
    if given.queries is None:
        summary = QuerySummary(source="documents", used=len(held_out.rows), available=available)
        return EvaluationQueries(held_out, summary, row_labels(documents))
    layers = (options.layers.old, options.layers.new)
    old, new = (
        _select_layer(side, layer if len(side.layers) > 1 else "last", f"queries_{name}")
        for side, layer, name in zip(given.queries, layers, ("old", "new"), strict=True)
    )
    for model, side, among in (("old", old, documents.a), ("new", new, documents.b)):
        check_columns(model, among.layers[0].dim, side.layers[0].dim)
    return choose_given_queries(options, documents, QuerySources(old, new, given.qrels))


class _Results(TypedDict):
    """Fields of a report with the results."""

    agreement: NeighbourAgreement
    strategies: tuple[Strategy, ...]
    improvement: ValueWithInterval | None
    verdict: Verdict


def _describe_results(
    options: UpgradeOptions, n: int, found: RetrievalResults, queries: EvaluationQueries, fits: FitsByStrategy
) -> _Results:
    shares = neighbour_recall(found.documents_old.ids, found.documents_new.ids, n)
    scores = score_strategies(found, n, queries.relevant)
    strategies, improvement = describe_strategies(scores, fits, options), describe_improvement(scores, options)
    return {
        "agreement": describe_agreement(shares, n, options),
        "strategies": strategies,
        "improvement": improvement,
        "verdict": decide(strategies, improvement, options.thresholds, options.level),
    }


class _Lists(TypedDict):
    """Fields of a report that list items."""

    worst_documents: tuple[ChangedItem, ...]
    worst_queries: tuple[ChangedItem, ...]


def _list_changed(
    options: UpgradeOptions,
    documents: PairedSides,
    sampled: QuerySet,
    queries: EvaluationQueries,
    found: RetrievalResults,
) -> _Lists:
    labels, n, count = row_labels(documents), documents.a.n, options.worst
    old, new = found.documents_old, found.documents_new
    changes = found.strategies["old"], found.strategies["re_embed"]
    return {
        "worst_documents": list_changed(sampled.rows, old, new, labels=(labels, labels), n=n, count=count),
        "worst_queries": list_changed(queries.vectors.rows, *changes, labels=(queries.labels, labels), n=n, count=count)
        if queries.summary.source == "queries"
        else (),
    }


def _report_warnings(
    options: UpgradeOptions, split: TrainTestSplit, documents: PairedSides, queries: EvaluationQueries
) -> tuple[str, ...]:
    """Collect the warnings of a report."""
    fit = fit_warnings(split) if options.maps else ()
    stand_ins: list[str] = []
    if queries.summary.source == "documents":
        stand_ins.append(
            f"The request has no queries, so {queries.summary.used} held-out documents serve as queries. "
            "Real queries often differ from documents."
        )
    return (*stand_ins, *fit, *documents.warnings())


def _torch_version(options: UpgradeOptions) -> dict[str, str]:
    return {"torch": version("torch")} if any(choice.kind == "mlp" for choice in options.maps) else {}
