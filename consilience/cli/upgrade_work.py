"""Where an upgrade report comes from."""

from pathlib import Path

from consilience.cli.progress import progress_bar
from consilience.cli.scoring import alarm, require_source
from consilience.cli.upgrade_options import Inputs
from consilience.contract.upgrades import UpgradeOptions, UpgradeReport
from consilience.errors import MissingExtra


def obtain_report(inputs: Inputs, options: UpgradeOptions, timeout_s: float | None) -> UpgradeReport:
    """The report on files."""
    for side in (*inputs.documents, *(inputs.queries or ())):
        require_source(side, None)
    try:
        from consilience.upgrading import report  # noqa: PLC0415 -- numpy and faiss, only for those who compute here
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"An upgrade report in this process needs {error.name}.",
            value=error.name,
            hint="Run: pip install 'consilience[compute]'.",
        ) from error
    old, new = map(Path, inputs.documents)
    queries = None if inputs.queries is None else (Path(inputs.queries[0]), Path(inputs.queries[1]))
    with alarm(timeout_s), progress_bar("reading") as progress:
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
