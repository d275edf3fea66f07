"""Two ways to a study: in this process, or by a service; and the files that it can be written to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consilience.cli.connection import connect
from consilience.cli.consoles import remarks
from consilience.cli.progress import progress_bar
from consilience.cli.scoring import alarm, require_source
from consilience.cli.waiting import await_document
from consilience.contract.studies import StudyOptions
from consilience.contract.study_results import TABLE, StudyDocument
from consilience.errors import InputError, MissingExtra

Models = Mapping[str, str]
Metadata = Mapping[str, Mapping[str, Any]]


def obtain_study(  # noqa: PLR0917 - what the command has read, in its order
    rows: Models,
    columns: Models | None,
    options: StudyOptions,
    metadata: Metadata,
    server: str | None,
    timeout_s: float | None,
) -> StudyDocument:
    """The study of files, or of stored sets where there is a server."""
    for source in (*rows.values(), *(columns or {}).values()):
        require_source(source, server)
    if server is None:
        return _study_here(rows, columns, options, metadata, timeout_s)
    return _study_there(rows, columns, options, metadata, server, timeout_s)


def _study_here(
    rows: Models, columns: Models | None, options: StudyOptions, metadata: Metadata, timeout_s: float | None
) -> StudyDocument:
    try:
        from consilience.studies.local import study  # noqa: PLC0415 -- numpy and faiss, only for those who score here
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"A study in this process needs {error.name}.",
            value=error.name,
            hint="Run: pip install 'consilience[compute]', or let a service do it with --server.",
        ) from error
    known = {label: dict(values) for label, values in metadata.items()}
    with alarm(timeout_s), progress_bar("reading") as report:
        return study(_paths(rows), None if columns is None else _paths(columns), options, metadata=known, report=report)


def _paths(models: Models) -> dict[str, object]:
    return {label: Path(source) for label, source in models.items()}


def _study_there(  # noqa: PLR0917 - as above
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
    """Into a file: CSV or Parquet by its suffix, else the whole document as JSON.

    Raises
    ------
    InputError
        It cannot be written.
    MissingExtra
        Parquet, and its library is not installed.
    """
    from consilience.formats.records import write_csv, write_parquet  # noqa: PLC0415 -- only for those who write

    writers = {".csv": write_csv, ".parquet": write_parquet}
    if (write := writers.get(out.suffix.lower())) is not None:
        content = write(TABLE, document.table())
    else:
        content = document.model_dump_json(by_alias=True, indent=2).encode() + b"\n"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(content)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.", value=out) from error
    remarks().print(f"Written to {out}", soft_wrap=True)
