"""Reference sets by the command and by the clients, against the real service."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from consilience.client.aio import AsyncClient
from consilience.client.sync import Client
from consilience.contract.references import ReferencePage, ReferenceSet
from consilience.contract.scores import ReferenceDocument, ScoreDocument
from consilience.errors import InUse, InvalidRequest, NotFound, UnpairedSides
from tests.cli.conftest import Command
from tests.serving import Serve

COMMON = np.random.default_rng(9).normal(size=(40, 8))


def model(seed: int, noise: float = 0.6) -> np.ndarray:
    return np.asarray(COMMON + noise * np.random.default_rng(seed).normal(size=COMMON.shape), np.float32)


@pytest.fixture
def reference(client: Client) -> Iterator[ReferenceSet]:
    made = client.add_reference("end to end", [model(seed) for seed in (1, 2, 3)], metadata={"items": "drawn"})
    yield made
    client.delete_reference(made.id)


def test_the_client_creates_reads_lists_and_deletes_a_reference_set(client: Client, reference: ReferenceSet) -> None:
    assert client.reference(reference.id) == client.reference("end to end") == reference
    assert reference.id in [each.id for each in client.references(name="end to end").data]
    with pytest.raises(InUse, match="end to end"):
        client.delete(reference.members[0].embedding)
    with pytest.raises(NotFound, match="nothing of this name"):
        client.reference("nothing of this name")
    with pytest.raises(UnpairedSides):
        client.add_reference("mixed", [model(1), model(1)[:20]])


def test_one_call_scores_an_array_against_all_members(client: Client, reference: ReferenceSet) -> None:
    array = model(4, 0.2)
    found = client.align(array, reference="end to end", metrics="mutual_knn").wait(timeout_s=60)
    pair = client.align(array, reference.members[1].embedding, metrics="mutual_knn").wait(timeout_s=60)

    assert isinstance(found, ReferenceDocument)
    assert isinstance(pair, ScoreDocument)
    assert found.score_document(1).scores[0].value == pair.scores[0].value
    assert (found.ranks[0].rank, found.ranks[0].n_ranked) == (1, 4)
    again = client.align(client.upload(array, name="stored"), reference=reference, metrics="mutual_knn").wait()
    assert again.ranks == found.ranks


def test_a_member_is_ranked_by_its_own_mean(client: Client, reference: ReferenceSet) -> None:
    found = client.align(reference.members[0].embedding, reference=reference, metrics="cka").wait(timeout_s=60)

    (standing,) = found.ranks
    assert [member.same_content for member in found.members] == [True, False, False]
    assert (standing.n_scores, standing.n_ranked) == (2, 3)
    assert standing.value == pytest.approx(standing.members[0].value, rel=1e-9)


def test_a_comparison_has_exactly_one_second_side(client: Client, reference: ReferenceSet) -> None:
    with pytest.raises(InvalidRequest, match="Both"):
        client.align(model(1), model(2), reference=reference)  # type: ignore[call-overload]  # the rejected call
    with pytest.raises(InvalidRequest, match="Neither"):
        client.align(model(1))  # type: ignore[call-overload]  # the same


def test_the_asynchronous_client_gives_the_same_result(service: Serve, reference: ReferenceSet) -> None:
    async def align() -> ReferenceDocument:
        async with AsyncClient(service.url) as client:
            assert await client.reference("end to end") == reference
            return await (await client.align(model(4), reference=reference, metrics="mutual_knn")).wait(timeout_s=60)

    assert asyncio.run(align()).reference.id == reference.id


def test_the_command_creates_scores_checks_and_deletes_a_reference_set(
    on_service: Command, docs: str, code: str
) -> None:
    made = ReferenceSet.model_validate_json(on_service("reference", "add", "by command", docs, code, "--json").out)
    listed = ReferencePage.model_validate_json(on_service("reference", "list", "--name", "by command", "--json").out)
    assert listed.data == (made,)
    assert "dev_code" in on_service("reference", "show", "by command").out

    scored = on_service("score", docs, "--reference", "by command", "--metric", "mutual_knn", "--json")
    value = ReferenceDocument.model_validate_json(scored.out).ranks[0].value
    assert value == pytest.approx(0.2092, abs=1e-4)
    passed, failed = (
        on_service("check", docs, "--reference", "by command", "--min", f"mutual_knn={threshold}")
        for threshold in (0.2, 0.3)
    )
    assert (passed.status, failed.status) == (0, 1)
    assert "failed" in failed.out
    assert on_service("reference", "delete", "by command").status == 0
    assert on_service("reference", "show", made.id).status == 2


def test_the_command_reports_missing_or_conflicting_arguments(
    consilience: Command, on_service: Command, docs: str, code: str
) -> None:
    assert "Embedding set B is missing." in consilience("score", docs).err
    assert "B and --reference cannot be used together." in on_service("score", docs, code, "--reference", "x").err
    assert "--server" in consilience("score", docs, "--reference", "x").err
    assert on_service("score", docs, "--reference", "nobody made this").status == 2
