"""Pairing by id and groups, from the upload through a worker: the library's own numbers."""

from pathlib import Path

import numpy as np
import pytest

from consilience.client.sync import Client
from consilience.scoring import score
from tests.cli.conftest import Command

RANDOM = np.random.default_rng(5)
IMAGES = RANDOM.standard_normal((40, 8)).astype(np.float32)
CAPTIONS = (np.repeat(IMAGES, 3, axis=0) + 0.5 * RANDOM.standard_normal((120, 8))).astype(np.float32)
NAMES = [f"image {i}" for i in range(40)]
OF_CAPTIONS = [name for name in NAMES for _ in range(3)]


def test_a_worker_pairs_sides_of_different_order_and_length(client: Client) -> None:
    order = RANDOM.permutation(40)[:30]
    a = client.upload(IMAGES, ids=NAMES)
    b = client.upload(IMAGES[order], ids=[NAMES[i] for i in order])
    document = client.align(a, b, pairing="id", metrics=["mutual_knn"]).wait(timeout_s=60)
    assert (document.pairing.by, document.pairing.matched, document.pairing.dropped_a) == ("id", 30, 10)
    assert document.scores[0].value == pytest.approx(1.0)


def test_groups_of_captions_give_the_same_score_on_service_and_library(client: Client) -> None:
    a, b = client.upload(IMAGES, ids=NAMES), client.upload(CAPTIONS, ids=OF_CAPTIONS, groups=OF_CAPTIONS)
    fields = {"pairing": "id", "metrics": ["mutual_knn"], "seed": 3}
    local = score(IMAGES, CAPTIONS, ids=(NAMES, OF_CAPTIONS), groups=(None, OF_CAPTIONS), **fields)
    remote = client.align(a, b, **fields).wait(timeout_s=60)
    assert remote.pairing == local.pairing
    assert remote.scores[0].value == local.scores[0].value
    assert remote.scores[0].null == local.scores[0].null


def test_the_command_pairs_by_id_with_and_without_a_server(
    consilience: Command, on_service: Command, tmp_path: Path
) -> None:
    order = RANDOM.permutation(40)[:30]
    np.save(tmp_path / "a.npy", IMAGES)
    np.save(tmp_path / "b.npy", IMAGES[order])
    (tmp_path / "a.txt").write_text("\n".join(NAMES))
    (tmp_path / "b.txt").write_text("\n".join(NAMES[i] for i in order))
    files = tmp_path / "a.npy", tmp_path / "b.npy", "--ids-a", tmp_path / "a.txt", "--ids-b", tmp_path / "b.txt"
    for command in (consilience, on_service):
        ran = command("score", *files, "--pairing", "id", "--metric", "mutual_knn")
        assert ran.status == 0, ran.err
        assert "1.0000" in ran.out
