"""`consilience score A B`."""

from consilience.cli.groups import LabelFiles, Measures, Output, Search, Service, read_options
from consilience.cli.options import Correction, Device, DryRun, GallerySizes, MemoryBudget, OtherSide, Reference, SideA
from consilience.cli.output import show_scores
from consilience.cli.plans import obtain_plan, show_plan
from consilience.cli.scoring import obtain_scores
from consilience.cli.standings import find_service, obtain_standings, show_standings
from consilience.cli.unfolding import unfold
from consilience.errors import InputError


@unfold
def score(
    a: SideA,
    b: OtherSide = None,
    *,
    measures: Measures,
    correction: Correction = "none",
    search: Search,
    gallery_sizes: GallerySizes = None,
    memory_budget: MemoryBudget = None,
    labels: LabelFiles,
    reference: Reference = None,
    output: Output,
    service: Service,
    dry_run: DryRun = False,
    device: Device = "auto",
) -> None:
    """Measure how far two embedding spaces agree, or where one stands among the members of a reference set.

    An undefined score (a constant column, say) is an answer: the status is 0.
    """
    options = read_options(
        measures, search, correction=correction, gallery_sizes=gallery_sizes, memory_budget=memory_budget
    )
    columns = labels.read()
    if (url := find_service(b, reference, service.server)) is not None and reference is not None:
        if dry_run:
            raise InputError("There is no dry run against a reference set.", hint="Leave out --dry-run, or name one B.")
        show_standings(obtain_standings(a, reference, options, columns, url, service.timeout), output)
        return
    assert b is not None  # noqa: S101 - checked above
    if dry_run:
        show_plan(obtain_plan(a, b, options, columns, service.server), as_json=output.as_json)
        return
    show_scores(obtain_scores(a, b, options, columns, service, device), output)
