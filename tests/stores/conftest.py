"""Records on a real database, and small things to put into them."""

import hashlib
from collections.abc import Callable

import pytest

from consilience.contract.embeddings import EmbeddingSet, Layer
from consilience.contract.jobs import Job, Plan
from consilience.contract.scores import Pairing, PreparationRecord, ScoreDocument, SideSummary
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.jobs import JobRecords
from consilience.stores.leases import Leases

PLAN = Plan(n=4, dim_a=1, dim_b=1, cells=1, flops=1.0, bytes=1, seconds=0.0)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def embeddings(database: Database) -> EmbeddingRecords:
    return EmbeddingRecords(database)


@pytest.fixture
def jobs(database: Database) -> JobRecords:
    return JobRecords(database)


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database)


@pytest.fixture
def add_set(embeddings: EmbeddingRecords) -> Callable[..., EmbeddingSet]:
    """Adds a set whose layers' content is named by the words of `layers`."""

    def add(layers: str = "x", name: str = "docs", **metadata: object) -> EmbeddingSet:
        records = [
            Layer(name=str(position), dim=3, dtype="F32", digest=digest(word))
            for position, word in enumerate(layers.split())
        ]
        return embeddings.add(name, 5, records, digest(layers), metadata, 60 * len(records))[0]

    return add


@pytest.fixture
def add_job(jobs: JobRecords) -> Callable[..., Job]:
    def add(*used: EmbeddingSet) -> Job:
        return jobs.add("alignment", {"seed": 0}, PLAN, [each.id for each in used]).job

    return add


@pytest.fixture
def score() -> ScoreDocument:
    side = SideSummary(id=None, name="x", n=4, layers=("0",))
    return ScoreDocument(
        a=side,
        b=side,
        n=4,
        pairing=Pairing(matched=4),
        preparation=PreparationRecord(profile="l2", normalise="l2"),
        scores=(),
        seed=0,
        versions={"consilience": "0.1.0"},
        timings_s={"neighbours": 0.25},
    )
