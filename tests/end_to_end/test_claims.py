"""The claims of examples/claims, small, against a real service."""

from pathlib import Path

import numpy as np
import pytest

from consilience.client.sync import Client
from examples.claims import chance, learning, modalities
from examples.claims.finding import say
from examples.claims.networks import Recipe, train


def test_a_network_is_the_same_each_time_and_learns_its_digits() -> None:
    first, again = train(Recipe(32, seed=1)), train(Recipe(32, seed=1))
    assert np.array_equal(first.rows, again.rows)
    assert first.rows.shape == (512, 2, 32)
    assert first.accuracy > 0.9
    assert not np.array_equal(first.rows, train(Recipe(32, seed=2)).rows)


def test_a_network_learns_tasks_of_its_own() -> None:
    assert train(Recipe(32, seed=1, tasks=4)).accuracy > 0.9


def test_levels_are_compared_and_judged_by_what_was_found(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "SEEDS", range(2))
    levels = learning.study_levels(client, "width", (8, 64), lambda width, seed: Recipe(int(width), seed))
    (_, low_accuracy, low, *_), (_, high_accuracy, high, *_) = levels.rows
    assert low_accuracy < high_accuracy
    word = "rises" if high > low else "falls"
    assert f"mutual_knn:k=10 with the width {word} from {low:.3f} to {high:.3f}" in levels.verdict("width")


def test_a_claim_leaves_a_page_and_its_picture(client: Client, tmp_path: Path) -> None:
    finding = chance.gallery(client)
    finding.write(tmp_path)
    page = (tmp_path / "gallery.md").read_text()
    assert f"| 2048 | {say(finding.rows[-1][1])} |" in page
    assert "![Gallery size" in page
    assert (tmp_path / "gallery.svg").read_text().startswith("<?xml")


def test_two_mixed_spaces_have_their_share_in_common() -> None:
    a, b = chance.mix(1.0)
    assert np.linalg.matrix_rank(np.hstack([a, b]), tol=1e-2) == chance.LATENT
    assert a.var() == pytest.approx(chance.mix(0.0)[0].var(), rel=0.05)


def test_captions_of_scenes_are_compared_with_their_pictures(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modalities, "SCENES", "scenes:n=64,seed=0")
    finding = modalities.captions(client)
    assert [row[0] for row in finding.rows] == [*modalities.CAPTIONS, "code"]
    assert "rank correlation" in finding.verdict
