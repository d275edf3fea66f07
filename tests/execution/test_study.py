"""A study of stored sets: cells are kept as they are done, and found again by whoever asks for the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from consilience.contract.alignments import AlignmentRequest
from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.studies import StudyRequest
from consilience.contract.study_results import CellScore, StudyDocument
from consilience.execution.alignment import run_alignment
from consilience.execution.study import run_study_job
from consilience.formats.files import from_vectors
from consilience.scoring import ignore_progress
from consilience.stores.blobs import BlobStore, set_digest
from consilience.stores.cells import CellRecords
from consilience.stores.database import Database
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.graph_cache import DiskCache
from tests.execution.clusters import Cluster

N = 60


@dataclass
class StudyRunner:
    """Stored sets, and studies of them."""

    folder: Path
    database: Database
    sets: list[EmbeddingSet] = field(default_factory=list)

    def store(self, count: int) -> None:
        """Sets that share a latent, each with noise of its own."""
        rng, blobs = np.random.default_rng(0), BlobStore(self.folder)
        latent = rng.normal(size=(N, 5))
        for number in range(count):
            layers = blobs.put(from_vectors((latent + rng.normal(size=(N, 5))).tolist()))
            metadata = {"params": number}
            added = EmbeddingRecords(self.database).add(f"m{number}", N, layers, set_digest(layers), metadata, N * 20)
            self.sets.append(added[0])

    def study(
        self, members: Sequence[int], cells: object, report: Callable[[str, int, int], None] = ignore_progress
    ) -> StudyDocument:
        """Compare some of them with each other."""
        chosen = [self.sets[number] for number in members]
        request = StudyRequest.model_validate(
            {"rows": [{"embedding": each.id} for each in chosen], "metrics": "mutual_knn", "trends": [{"by": "params"}]}
        )
        stores = BlobStore(self.folder), DiskCache(self.folder, 10**8)
        return run_study_job(request, chosen, None, *stores, cells=cells, report=report)  # type: ignore[arg-type]  # a store of cells


@pytest.fixture
def runner(tmp_path: Path, sqlite_url: str) -> StudyRunner:
    runner = StudyRunner(tmp_path / "data", Database(sqlite_url))
    runner.store(5)
    return runner


def plain(document: StudyDocument) -> StudyDocument:
    """What does not depend on what was known before."""
    return document.model_copy(update={"graphs": None, "cells_reused": 0, "timings_s": {}})


def test_a_study_of_stored_sets_equals_their_pair_jobs(runner: StudyRunner) -> None:
    found = runner.study(range(3), CellRecords(runner.database))
    names = {each.name: each for each in runner.sets}
    for cell in found.matrices[0].cells:
        a, b = names[cell.row], names[cell.column]
        request = AlignmentRequest.model_validate(
            {"a": {"embedding": a.id}, "b": {"embedding": b.id}, "metrics": "mutual_knn"}
        )
        stores = BlobStore(runner.folder), DiskCache(runner.folder, 10**8)
        entry = run_alignment(request, a, b, *stores, report=ignore_progress).scores[0]
        assert (cell.value, cell.null, cell.interval) == (entry.value, entry.null, entry.interval)
    assert [member.id for member in found.rows] == [each.id for each in runner.sets[:3]]
    assert found.rows[1].metadata == {"params": 1}


def test_the_same_study_again_scores_nothing(runner: StudyRunner) -> None:
    first, again = (runner.study(range(4), CellRecords(runner.database)) for _ in range(2))
    assert (first.cells_reused, again.cells_reused) == (0, 6)
    assert again.graphs is None
    assert plain(again) == plain(first)


def test_one_model_more_costs_one_row_and_equals_a_study_from_nothing(runner: StudyRunner) -> None:
    runner.study(range(4), CellRecords(runner.database))
    more = runner.study(range(5), CellRecords(runner.database))
    assert more.cells_reused == 6
    assert more.total - more.cells_reused == 4
    assert plain(more) == plain(runner.study(range(5), Forgetful()))


class Forgetful:
    """Holds nothing."""

    def read(self, keys: Sequence[str]) -> Mapping[str, Sequence[CellScore]]:  # noqa: ARG002 - a store needs them
        return {}

    def add(self, found: Mapping[str, Sequence[CellScore]]) -> None:
        pass


class PowerCut(Exception):
    """The end of a process in mid-study."""


def test_a_study_that_is_cut_off_goes_on_where_it_was(runner: StudyRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consilience.studies.running.FLUSH_S", 0.0)

    def cut(stage: str, done: int, _total: int) -> None:
        if (stage, done) == ("cells", 4):
            raise PowerCut

    with pytest.raises(PowerCut):
        runner.study(range(4), CellRecords(runner.database), report=cut)
    seen: list[int] = []
    rest = runner.study(
        range(4),
        CellRecords(runner.database),
        report=lambda stage, done, _: seen.append(done) if stage == "cells" else None,
    )
    assert rest.cells_reused == 4
    assert seen == [4, 5, 6]
    assert plain(rest) == plain(runner.study(range(4), Forgetful()))


def test_progress_counts_cells(runner: StudyRunner) -> None:
    seen: list[tuple[str, int, int]] = []
    runner.study(range(3), Forgetful(), report=lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "cells"] == [("cells", done, 3) for done in range(4)]


def test_on_a_cluster_cells_are_the_same_to_the_last_bit(
    runner: StudyRunner, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consilience.studies.running.BATCH_CELLS", 3)
    chosen = runner.sets
    request = StudyRequest.model_validate(
        {"rows": [{"embedding": each.id} for each in chosen], "metrics": ["mutual_knn", "cka"], "interval": None}
    )
    here, there = (
        run_study_job(
            request,
            chosen,
            None,
            BlobStore(runner.folder),
            DiskCache(runner.folder / name, 10**8),
            cells=Forgetful(),  # type: ignore[arg-type]  # a store of cells
            report=ignore_progress,
            cluster=address,
        )
        for name, address in (("here", None), ("there", cluster.address))
    )
    assert here.total == 10
    assert plain(there) == plain(here)
