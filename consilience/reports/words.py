"""How figures and names of a report read, in every form."""

from consilience.contract.maps import MapSide, MeanShare
from consilience.contract.upgrade_reports import Changed, Span, UpgradeReport, Way

ABSENT = "-"
LABELS = {
    "re_embed": "new queries, documents embedded anew",
    "old": "old queries, old index (today)",
    "keep": "new queries as they are, old index",
}


def title(report: UpgradeReport) -> str:
    """Which model goes, and which comes."""
    return f"{_name(report.old)} to {_name(report.new)}"


def _name(side: MapSide) -> str:
    """The model or the file; with its layer where there are several."""
    layer = "" if side.layer == "0" else f", layer {side.layer}"
    return f"{side.model or side.name}{layer}"


def label(way: Way) -> str:
    """What a way is, in a few words."""
    return LABELS.get(way.kind) or f"new queries through {way.name.removeprefix('adapt:')}, old index"


def share(found: MeanShare | Span | None) -> str:
    """A share with its interval."""
    return ABSENT if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def way_row(way: Way) -> tuple[str, str, str, str, str]:
    """Label, recall, judged, retained, gain."""
    return label(way), share(way.recall), share(way.judged), share(way.retained), share(way.gain)


def way_columns(report: UpgradeReport) -> tuple[str, str, str, str, str]:
    """The columns' names."""
    return "way", f"recall@{report.k} of full re-embedding", f"relevant@{report.k}", "retained", "update gain"


def facts(report: UpgradeReport) -> dict[str, str]:
    """What the figures are of."""
    who = "held-out documents" if report.queries.source == "documents" else "queries"
    shared, chance = report.agreement.shared, report.agreement.chance
    found = {
        "old model": f"{_name(report.old)}, {report.old.dim} dimensions",
        "new model": f"{_name(report.new)}, {report.new.dim} dimensions",
        "documents": f"{report.n:,}, of which maps were fitted on {report.n_train:,}",
        "asked": f"{report.queries.asked:,} of {report.queries.available:,} {who}",
        f"neighbour agreement@{report.k}": f"{share(shared)} over {report.agreement.asked:,} documents; {chance:.3f} by chance",
        "intervals": f"{100 * report.level:g} %",
        "seed": str(report.seed),
    }
    if report.improvement is not None:
        found[f"relevant@{report.k}, new model less old"] = share(report.improvement)
    return found


def changed_row(changed: Changed) -> tuple[str, str, str, str]:
    """The item, how many neighbours it keeps, its old and its new neighbours."""
    return (
        changed.item,
        f"{changed.shared} of {len(changed.old)}",
        ", ".join(neighbour.item for neighbour in changed.old),
        ", ".join(neighbour.item for neighbour in changed.new),
    )


CHANGED_COLUMNS = ("item", "kept", "neighbours by the old model", "neighbours by the new model")


def changed_lists(report: UpgradeReport) -> list[tuple[str, tuple[Changed, ...]]]:
    """The lists of items that changed most, with their headings."""
    lists = [
        ("Documents that changed most", report.worst_documents),
        ("Queries that changed most", report.worst_queries),
    ]
    return [(heading, items) for heading, items in lists if items]


NOTES = (
    "recall: the share of the first k answers of full re-embedding that a way finds among its own first k.",
    "relevant: the share of the documents that answer a query by the judgements, among the first k.",
    "retained: what a way finds over what full re-embedding finds: by the judgements where there are some, else recall.",
    "update gain: (a way - old) / (full re-embedding - old), Shen et al. 2020, arXiv 2003.11942.",
)
