"""What a comparison would cost, without making it."""

from pathlib import Path

from rich.console import RenderableType

from consilience.cli.columns import Columns
from consilience.cli.connection import connect
from consilience.cli.extras import packages_of
from consilience.cli.output import present
from consilience.cli.scoring import require_source
from consilience.cli.tables import fact_table
from consilience.contract.jobs import Plan, ScoringOptions
from consilience.contract.places import prefixed
from consilience.errors import InputError
from consilience.memory import find_job_memory


def obtain_plan(a: str, b: str, options: ScoringOptions, columns: Columns, server: str | None) -> Plan:
    """The plan for two files from their headers alone, or for two stored sets where there is a server.

    Raises
    ------
    InputError
        What cannot be scored, or would take more memory than there is.
    """
    for side in (a, b):
        require_source(side, server)
    if server is None:
        return _plan_here(a, b, options, columns)
    for side in (a, b):
        if Path(side).is_file():
            raise InputError(
                f"{side} is a file, which the service does not know yet.",
                value=side,
                hint="Upload it first, or leave --server out.",
            )
    with connect(server) as client:
        return client.plan(a, b, options)


def _plan_here(a: str, b: str, options: ScoringOptions, columns: Columns) -> Plan:
    with packages_of("compute", "A plan in this process"):
        from consilience.formats.files import open_path  # noqa: PLC0415 -- numpy, only for those who plan here
        from consilience.planning.alignments import CostLimits, SideShape, plan  # noqa: PLC0415 -- the same

    shapes = []
    for side, ids, groups in zip((a, b), columns.ids, columns.groups, strict=True):
        with prefixed(f"File {side}"), open_path(side) as file:
            labels = file.with_columns(ids, groups)
            shapes.append(
                SideShape(
                    file.n,
                    tuple((layer.name, layer.dim) for layer in file.layers),
                    unique_ids=None if labels.ids is None else len(set(labels.ids)),
                    has_groups=labels.groups is not None,
                )
            )
    limits = CostLimits(bytes=options.memory_budget_bytes or find_job_memory())
    return plan(options, shapes[0], shapes[1], limits)


def show_plan(found: Plan, *, as_json: bool) -> None:
    """To standard output as a table, or alone as JSON."""
    present(found, _plan_table, as_json=as_json)


def _plan_table(found: Plan) -> RenderableType:
    facts = {
        "rows": f"{found.n:,}",
        "columns": f"{found.dim_a} and {found.dim_b}",
        "layer pairs": str(found.cells),
        "operations": f"{found.flops:.3g}",
        "time": f"{found.seconds:.3g} s on two cores",
        "memory": f"{found.bytes / 1e9:.3g} GB, " + ("rows read by blocks" if found.streamed else "rows in memory"),
    }
    if found.memory_budget_bytes is not None:
        facts["budget"] = f"{found.memory_budget_bytes / 1e9:.3g} GB"
    if found.queries is not None:
        facts["queries"] = f"about {found.queries:,}, at most {found.queries_max:,}"
    return fact_table(facts)
