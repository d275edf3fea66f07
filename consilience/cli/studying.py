"""Two ways to a study: in this process, or by a service; and the files that it can be written to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consilience.cli.connection import connect
from consilience.cli.extras import packages_of
from consilience.cli.groups import Service
from consilience.cli.local_work import work_here
from consilience.cli.output import to_json, write
from consilience.cli.progress import progress_bar
from consilience.cli.scoring import require_source
from consilience.cli.waiting import await_document
from consilience.contract.studies import StudyOptions
from consilience.contract.study_results import TABLE, StudyDocument

Models = Mapping[str, str]
Metadata = Mapping[str, Mapping[str, Any]]

#: Forms of a study by the ending of a file's name.
SUFFIXES = (".json", ".csv", ".parquet")


def obtain_study(
    rows: Models,
    columns: Models | None,
    options: StudyOptions,
    metadata: Metadata,
    service: Service,
) -> StudyDocument:
    """The study of files, or of stored sets where there is a server."""
    for source in (*rows.values(), *(columns or {}).values()):
        require_source(source, service.server)
    if service.server is None:
        return _study_here(rows, columns, options, metadata, service.timeout)
    return _study_there(rows, columns, options, metadata, service.server, service.timeout)


def _study_here(
    rows: Models, columns: Models | None, options: StudyOptions, metadata: Metadata, timeout_s: float | None
) -> StudyDocument:
    with packages_of("compute", "A study in this process"):
        from consilience.studies.local import study  # noqa: PLC0415 -- numpy and faiss, only for those who score here
    known = {label: dict(values) for label, values in metadata.items()}
    with work_here("reading", timeout_s) as report:
        return study(_paths(rows), None if columns is None else _paths(columns), options, metadata=known, report=report)


def _paths(models: Models) -> dict[str, object]:
    return {label: Path(source) for label, source in models.items()}


def _study_there(  # noqa: PLR0917 - what the command has read, in its order
    rows: Models,
    columns: Models | None,
    options: StudyOptions,
    metadata: Metadata,
    server: str,
    timeout_s: float | None,
) -> StudyDocument:
    with connect(server) as client, progress_bar("uploading") as report:
        pending = client.study(rows, columns, options, metadata=metadata)
        return await_document(client, pending.id, StudyDocument, report, timeout_s)


def write_study(document: StudyDocument, out: Path) -> None:
    """Into a file: a table as CSV or Parquet, or the whole document as JSON, by its suffix.

    Raises
    ------
    InputError
        It cannot be written.
    MissingExtra
        Parquet, and its library is not installed.
    """
    from consilience.formats.records import write_csv, write_parquet  # noqa: PLC0415 -- only for those who write

    writers = {".csv": write_csv, ".parquet": write_parquet}
    if (form := writers.get(out.suffix.lower())) is not None:
        content = form(TABLE, document.table())
    else:
        content = to_json(document).encode() + b"\n"
    write(out, content)
