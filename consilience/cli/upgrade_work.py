"""Where an upgrade report comes from."""

from pathlib import Path

from consilience.cli.connection import connect
from consilience.cli.extras import packages_of
from consilience.cli.groups import Service
from consilience.cli.local_work import work_here
from consilience.cli.progress import progress_bar
from consilience.cli.scoring import require_source, store
from consilience.cli.upgrade_options import Inputs
from consilience.cli.waiting import await_document
from consilience.contract.upgrade_reports import UpgradeReport
from consilience.contract.upgrades import UpgradeOptions


def obtain_report(inputs: Inputs, options: UpgradeOptions, service: Service) -> UpgradeReport:
    """The report on files, or on stored sets where there is a server."""
    for side in (*inputs.documents, *(inputs.queries or ())):
        require_source(side, service.server)
    if service.server is None:
        return _report_here(inputs, options, service.timeout)
    return _report_there(inputs, options, service.server, service.timeout)


def _report_here(inputs: Inputs, options: UpgradeOptions, timeout_s: float | None) -> UpgradeReport:
    with packages_of("compute", "An upgrade report in this process"):
        from consilience.upgrading import report  # noqa: PLC0415 -- numpy and faiss, only for those who compute here
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
