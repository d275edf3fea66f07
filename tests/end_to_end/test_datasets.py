"""Datasets by the command and by the clients, against the real service."""

import asyncio
import re
from pathlib import Path

import pytest

from consilience.client.aio import AsyncClient
from consilience.client.sync import Client
from consilience.contract.datasets import Dataset, DatasetPage
from consilience.errors import BadItem, NotFound
from tests.cli.conftest import Command
from tests.formats.items.item_files import ITEMS, image_archive, jsonl, zipped
from tests.serving import Serve


@pytest.fixture
def items(tmp_path: Path) -> Path:
    file = tmp_path / "items.jsonl"
    file.write_bytes(jsonl(ITEMS))
    return file


def test_the_command_adds_shows_lists_and_deletes_a_dataset(on_service: Command, items: Path) -> None:
    added = on_service("datasets", "add", items, "--name", "by command")
    assert added.status == 0
    (dataset_id,) = re.findall(r"ds_[0-9a-f]{32}", added.out)
    assert "code" in added.out
    shown = Dataset.model_validate_json(on_service("datasets", "show", dataset_id, "--json").out)
    assert (shown.name, shown.n, [view.name for view in shown.views]) == ("by command", 3, ["text", "code"])
    listed = DatasetPage.model_validate_json(on_service("datasets", "list", "--name", "by command", "--json").out)
    assert [each.id for each in listed.data] == [dataset_id]
    assert "by command" in on_service("datasets", "list").out
    assert on_service("datasets", "delete", dataset_id).status == 0
    assert on_service("datasets", "show", dataset_id).status == 2


def test_the_command_selects_views_and_creates_built_in_datasets(on_service: Command, items: Path) -> None:
    chosen = on_service("datasets", "add", items, "--views", "text=code", "--json")
    assert [view.kind for view in Dataset.model_validate_json(chosen.out).views] == ["code"]
    made = Dataset.model_validate_json(on_service("datasets", "add", "scenes:n=6", "--json").out)
    assert (made.name, made.n, made.source) == ("scenes", 6, "builtin")
    assert on_service("datasets", "add", "imagenet").status == 2


def test_both_clients_add_and_create_datasets(client: Client, service: Serve, tmp_path: Path) -> None:
    file = tmp_path / "album.zip"
    file.write_bytes(zipped(image_archive()))

    async def add() -> Dataset:
        async with AsyncClient(service.url) as other:
            return await other.add_dataset(file)

    assert asyncio.run(add()) == client.add_dataset(file)
    chosen = client.make_dataset("scenes:n=6", ids=["scene-000003"], name="one")
    assert (chosen.n, client.dataset(chosen.id)) == (1, chosen)
    client.delete_dataset(chosen.id)
    with pytest.raises(NotFound):
        client.dataset(chosen.id)
    file.write_bytes(zipped(image_archive({"pictures/1.png": b"no picture"})))
    with pytest.raises(BadItem, match="The view `image` of item 'p0'"):
        client.add_dataset(file)
