"""An examination of the data folder and the database: do they agree, and is each sound. It changes nothing.

The service may run meanwhile: what is deleted between two looks is looked at again before it is reported.
"""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from consilience.errors import StartupError
from consilience.stores import tables
from consilience.stores.access import EVERYTHING
from consilience.stores.blob_checks import (
    all_datasets,
    all_sets,
    check_dataset,
    check_folder,
    check_maps,
    check_set,
    is_there,
)
from consilience.stores.blobs import Blobs
from consilience.stores.database import Database
from consilience.stores.datasets import DatasetRecords
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.findings import Finding
from consilience.stores.maps import MapRecords
from consilience.stores.retention import Retention
from consilience.stores.row_checks import check_file, check_rows

#: A blob that no record names is an orphan after this: the collector's own grace, and some of its rounds.
GRACE_S = 2 * 3600.0


@dataclass(frozen=True)
class Report:
    """What was looked at and what was found."""

    jobs: int
    sets: int
    datasets: int
    blobs: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is lost or wrong; warnings do not count."""
        return all(finding.severity != "error" for finding in self.findings)


def examine(url: str, folder: Path, *, deep: bool = False, grace_s: float = GRACE_S) -> Report:
    """Compare the database and the data folder.

    Parameters
    ----------
    url : str
        The database's, as in CONSILIENCE_DATABASE_URL.
    folder : Path
        The data folder.
    deep : bool
        Read every byte and compare it with its digest, not only the sizes.
    grace_s : float
        Seconds for which a blob may be there without a record.

    Raises
    ------
    StartupError
        There is no such database or folder.
    Unavailable
        The database does not answer.
    """
    if not (folder / "layers").is_dir():
        raise StartupError("This is no data folder.", value=folder, hint="Name another with --data-dir.")
    _require_file(url)
    database = Database(url)
    try:
        return _examine(database, Blobs(folder), deep=deep, grace_s=grace_s)
    finally:
        database.close()


def _examine(database: Database, blobs: Blobs, *, deep: bool, grace_s: float) -> Report:
    try:
        database.wait_for_schema(0)
    except StartupError as error:
        return Report(0, 0, 0, 0, (Finding("error", "other-schema", "database", str(error)),))
    with database.read() as connection:
        findings = [*check_file(connection, deep=deep), *check_rows(connection)]
        jobs = connection.execute(sa.select(sa.func.count()).select_from(tables.jobs)).scalar_one()
    records, sets = EmbeddingRecords(database, EVERYTHING), 0
    for sets, stored in enumerate(all_sets(records), start=1):  # noqa: B007 - the count is wanted after the loop
        faults = list(check_set(blobs, stored, deep=deep))
        if faults and is_there(records, stored.id):
            findings += faults
    items, datasets = DatasetRecords(database, EVERYTHING), 0
    for datasets, each in enumerate(all_datasets(items), start=1):  # noqa: B007 - as above
        faults = list(check_dataset(blobs, each, deep=deep))
        if faults and is_there(items, each.id):
            findings += faults
    findings += check_maps(MapRecords(database, blobs, EVERYTHING), deep=deep)
    findings += check_folder(blobs, Retention(database), grace_s)
    return Report(jobs, sets, datasets, sum(1 for _ in blobs.digests()), tuple(findings))


def _require_file(url: str) -> None:
    """SQLite would make a file that is not there."""
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        return  # opening it says what is wrong with it
    if parsed.drivername == "sqlite" and parsed.database and not Path(parsed.database).is_file():
        raise StartupError(
            "There is no such database.",
            value=parsed.database,
            hint="Name the service's data folder with --data-dir, or its database with --database-url.",
        )
