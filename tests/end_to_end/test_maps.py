"""Maps through the client and the command, against a whole service."""

from pathlib import Path

import numpy as np
import pytest

from consilience.client.sync import Client
from consilience.errors import NotFound
from consilience.maps.api import fit_map, load_map
from tests.cli.conftest import Command


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sides")
    rng = np.random.default_rng(0)
    a = rng.normal(size=(90, 7)).astype(np.float32)
    np.save(folder / "old.npy", a)
    np.save(folder / "new.npy", (a @ rng.normal(size=(7, 6))).astype(np.float32))
    return folder / "old.npy", folder / "new.npy"


def test_the_client_fits_downloads_applies_and_deletes_a_map(
    client: Client, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    stored = client.fit_map(*sides, map="ridge", name="through the client").wait(timeout_s=60)
    assert client.map(stored.id) == stored
    assert stored in client.maps(name="through the client").data
    (tmp_path / "map").write_bytes(client.map_file(stored.id))
    here, rows = fit_map(*sides, map="ridge"), np.load(sides[0])
    assert load_map(tmp_path / "map").card.digest == here.card.digest
    found = client.translate(stored.id, rows[:4])
    assert np.array(found.vectors) == pytest.approx(here.apply(rows[:4]), abs=1e-6)
    made = client.translate_set(stored.id, sides[0], name="old as new").wait(timeout_s=60)
    assert client.embedding(made.embedding.id).layers[0].dim == 6
    again = client.upload_map(tmp_path / "map", name="sent back")
    assert again.model_card == load_map(tmp_path / "map").card
    for map_id in (stored.id, again.id):
        client.delete_map(map_id)
        with pytest.raises(NotFound):
            client.map(map_id)


def test_translation_by_an_unknown_map_is_rejected(client: Client, sides: tuple[Path, Path]) -> None:
    with pytest.raises(NotFound):
        client.translate_set("map_" + "0" * 32, sides[0])


def test_the_map_command_uses_the_service(on_service: Command, sides: tuple[Path, Path], tmp_path: Path) -> None:
    ran = on_service("map", "fit", *sides, "--kind", "procrustes", "--out", tmp_path / "map", "--model-a", "v1")
    assert ran.status == 0, ran.err
    map_id = ran.err.split("Stored the map as ")[1].split()[0]
    assert load_map(tmp_path / "map").card.a.model == "v1"
    assert "procrustes map, v1 (7) to new (6)" in on_service("map", "report", map_id).out
    made = on_service("map", "apply", map_id, sides[0])
    assert made.out.startswith("emb_")
    sent = on_service("map", "apply", tmp_path / "map", sides[0])
    assert sent.out.startswith("emb_")
    wrong = on_service("map", "apply", map_id, sides[1])
    assert wrong.status == 2
    assert "the map takes 7" in wrong.err
