"""The claims of examples/claims, small, against a real service."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from consilience.client.sync import Client
from examples.claims import chance, learning, modalities, networks
from examples.claims.finding import Finding, describe_change, say
from examples.claims.networks import NetworkOptions, train


def test_a_network_is_the_same_each_time_and_learns_its_digits() -> None:
    first, again = train(NetworkOptions(32, seed=1)), train(NetworkOptions(32, seed=1))
    assert np.array_equal(first.rows, again.rows)
    assert first.rows.shape == (512, 2, 32)
    assert first.accuracy > 0.9
    assert not np.array_equal(first.rows, train(NetworkOptions(32, seed=2)).rows)


def test_a_network_learns_tasks_of_its_own() -> None:
    assert train(NetworkOptions(32, seed=1, tasks=4)).accuracy > 0.9


def test_levels_are_compared_and_judged_by_what_was_found(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "SEEDS", range(2))
    levels = learning.study_levels(client, "width", (8, 64), lambda width, seed: NetworkOptions(int(width), seed))
    (_, low_accuracy, low, *_), (_, high_accuracy, high, *_) = levels.rows
    assert low_accuracy < high_accuracy
    word = "rises" if high > low else "falls"
    assert f"mutual_knn:k=10 with the width {word} from {low:.3f} to {high:.3f}" in levels.verdict("width")


def test_a_claim_leaves_a_page_and_its_picture(client: Client, tmp_path: Path) -> None:
    issue = chance.gallery(client)
    issue.write(tmp_path)
    page = (tmp_path / "gallery.md").read_text()
    assert f"| 2048 | {say(issue.rows[-1][1])} |" in page
    assert "![Gallery size" in page
    assert (tmp_path / "gallery.svg").read_text().startswith("<?xml")


def test_two_mixed_spaces_have_their_share_in_common() -> None:
    a, b = chance.mix(1.0)
    assert np.linalg.matrix_rank(np.hstack([a, b]), tol=1e-2) == chance.LATENT
    assert a.var() == pytest.approx(chance.mix(0.0)[0].var(), rel=0.05)


def test_captions_of_scenes_are_compared_with_their_pictures(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(modalities, "SCENES", "scenes:n=64,seed=0")
    issue = modalities.captions(client)
    assert [row[0] for row in issue.rows] == [*modalities.CAPTIONS, "code"]
    assert "rank correlation" in issue.verdict
    issue.write(tmp_path)
    assert (tmp_path / "captions.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("claim", "levels"),
    [
        (learning.capacity, [4, 8, 16, 32, 64, 128, 256]),
        (learning.tasks, [1, 2, 4, 8, 16, 32]),
        (learning.simplicity, [0.5, 1.0, 2.0, 4.0, 8.0]),
    ],
    ids=["capacity", "tasks", "simplicity"],
)
def test_networks_of_every_level_are_told_with_what_was_found(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    claim: Callable[[Client], Finding],
    levels: list[float],
) -> None:
    monkeypatch.setattr(learning, "SEEDS", range(2))
    monkeypatch.setattr(networks, "STEPS", 20)
    issue = claim(client)
    issue.write(tmp_path)
    assert [row[0] for row in issue.rows] == levels
    for place, metric in ((2, "mutual_knn:k=10"), (4, "cka")):
        first, last = (issue.rows[end][place] for end in (0, -1))
        assert isinstance(first, float)
        assert isinstance(last, float)
        assert re.search(
            rf"{metric} with the .* {describe_change('', first, last).strip()}; over all networks", issue.verdict
        )
    assert (tmp_path / f"{issue.name}.svg").read_text().startswith("<?xml")


def test_every_layer_on_docstrings_is_compared_with_every_layer_on_code(client: Client, tmp_path: Path) -> None:
    issue = modalities.docstrings(client)
    issue.write(tmp_path)
    table = np.array([row[1:] for row in issue.rows], dtype=float)
    assert table.shape == (7, 7)
    row, column = np.unravel_index(table.argmax(), table.shape)
    assert f"The best pair is docs {row} with code {column}, {table.max():.3f}" in issue.verdict
    assert (tmp_path / "docstrings.svg").read_text().startswith("<?xml")


def test_where_a_score_of_016_is_reached_is_read_from_the_table(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(chance, "N", 256)
    issue = chance.meaning(client)
    issue.write(tmp_path)
    shares, scores, *_, ckas = np.array(issue.rows, dtype=float).T
    assert scores[0] < 0.16 < scores[-1]
    below = int(np.flatnonzero(scores > 0.16)[0]) - 1
    part = (0.16 - scores[below]) / (scores[below + 1] - scores[below])
    share, cka = (float(of[below] + part * (of[below + 1] - of[below])) for of in (shares, ckas))
    assert f"where {share:.0%} of the variance are in common, and debiased CKA says {cka:.2f}" in issue.verdict
    assert (tmp_path / "meaning.svg").read_text().startswith("<?xml")
