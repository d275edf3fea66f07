"""`consilience study MODEL... [--against MODEL]...`."""

from typing import Annotated

from typer import Argument

from consilience.cli.groups import Measures, Search, Service, read_options
from consilience.cli.options import Json, MemoryBudget
from consilience.cli.output import check_out, present
from consilience.cli.study_options import Against, Interval, MetadataFile, OutFile, Questions, read_study_options
from consilience.cli.study_tables import study_table
from consilience.cli.study_words import parse_models, read_metadata
from consilience.cli.studying import SUFFIXES, obtain_study, write_study
from consilience.cli.unfolding import unfold

Rows = Annotated[list[str], Argument(metavar="[LABEL=]MODEL...", help="Files; with --server also ids.")]


@unfold
def study(
    models: Rows,
    *,
    against: Against = None,
    metadata: MetadataFile = None,
    questions: Questions,
    measures: Measures,
    interval: Interval = True,
    search: Search,
    memory_budget: MemoryBudget = None,
    out: OutFile = None,
    as_json: Json = False,
    service: Service,
) -> None:
    """Compare many embedding spaces: with each other, or with those given by --against."""
    check_out(out, SUFFIXES)
    scoring = read_options(measures, search, memory_budget=memory_budget)
    options = read_study_options(scoring, questions, interval=interval)
    columns = None if against is None else parse_models(against)
    document = obtain_study(parse_models(models), columns, options, read_metadata(metadata), service)
    present(document, study_table, as_json=as_json)
    if out is not None:
        write_study(document, out)
