import threading
from collections.abc import Callable

import pytest

from consilience.contract.embeddings import EmbeddingSet
from consilience.contract.jobs import Job
from consilience.errors import InUse, InvalidRequest, NotFound
from consilience.stores.embeddings import EmbeddingRecords
from consilience.stores.jobs import JobRecords

AddSet = Callable[..., EmbeddingSet]
UNKNOWN = ["emb_" + "0" * 32, "emb_", "", "job_" + "0" * 32, "emb_\x00", "' OR 1=1 --", "emb_" + "0" * 40]


def test_a_set_comes_back_as_it_was_recorded(embeddings: EmbeddingRecords, add_set: AddSet) -> None:
    added = add_set("x y z", name="docs v1", run=7, note="\u0000 ü", nested={"a": [1, None]})
    assert embeddings.get(added.id) == added
    assert [layer.name for layer in added.layers] == ["0", "1", "2"]
    assert added.links == {"self": f"/v1/embeddings/{added.id}"}
    assert added.metadata == {"run": 7, "note": "\u0000 ü", "nested": {"a": [1, None]}}
    assert added.created_at.tzinfo is not None


def test_layers_keep_their_order_beyond_ten(add_set: AddSet) -> None:
    assert [layer.name for layer in add_set(" ".join("abcdefghijklm")).layers] == [str(i) for i in range(13)]


def test_the_same_content_and_label_is_the_same_set(embeddings: EmbeddingRecords, add_set: AddSet) -> None:
    first = add_set("x", name="docs", run=1)
    again, created = embeddings.add("docs", 5, first.layers, first.digest, {"run": 1}, 60)
    assert (again, created) == (first, False)


def test_another_label_is_another_set(add_set: AddSet) -> None:
    sets = [add_set("x"), add_set("x", name="other"), add_set("x", run=1), add_set("y")]
    assert len({each.id for each in sets}) == 4


def test_the_same_upload_at_the_same_time_is_one_set(embeddings: EmbeddingRecords, add_set: AddSet) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(add_set("x", run=1).id)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 6
    assert len(set(ids)) == 1
    assert len(embeddings.page(None, 10).data) == 1


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_an_unknown_id_is_not_found(embeddings: EmbeddingRecords, unknown: str) -> None:
    with pytest.raises(NotFound) as caught:
        embeddings.get(unknown)
    assert caught.value.value == unknown
    with pytest.raises(NotFound):
        embeddings.delete(unknown)


def test_pages_go_through_all_sets_newest_first(embeddings: EmbeddingRecords, add_set: AddSet) -> None:
    added = [add_set(str(number)).id for number in range(7)]
    seen, cursor = [], None
    while True:
        page = embeddings.page(cursor, 3)
        seen += [each.id for each in page.data]
        assert page.has_more == (page.next_cursor is not None)
        if not page.has_more:
            break
        cursor = page.next_cursor
    assert seen == added[::-1]


def test_a_set_that_is_added_meanwhile_moves_no_page(embeddings: EmbeddingRecords, add_set: AddSet) -> None:
    added = [add_set(str(number)).id for number in range(4)]
    first = embeddings.page(None, 2)
    add_set("late")
    assert [each.id for each in embeddings.page(first.next_cursor, 2).data] == added[1::-1]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "%",
        "e30",
        "WzEsMl0",
        "W10",
        "ü",
        "WyJ4Il0",
        "A" * 5000,
        "bnVsbA",
        "\x00",
        "WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwgIlx1ZDgwMCJd",
    ],
)
def test_a_cursor_that_is_not_ours_is_refused(embeddings: EmbeddingRecords, cursor: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embeddings.page(cursor, 3)
    assert caught.value.pointer == "cursor"


@pytest.mark.parametrize("limit", [0, -1, 1001, 10**30])
def test_a_limit_out_of_range_is_refused(embeddings: EmbeddingRecords, limit: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embeddings.page(None, limit)
    assert caught.value.limit == 1000


def test_sets_are_found_by_name_and_metadata(embeddings: EmbeddingRecords, add_set: AddSet) -> None:
    one = add_set("1", name="docs", run=1, tag="x")
    two = add_set("2", name="docs", run="1", tag="x")
    add_set("3", name="code", run=1)

    def find(**filters: object) -> list[str]:
        return [each.id for each in embeddings.page(None, 10, **filters).data]

    assert find(name="docs") == [two.id, one.id]
    assert find(name="docs", metadata={"run": 1}) == [one.id]
    assert find(metadata={"run": "1", "tag": "x"}) == [two.id]
    assert find(metadata={"run": 1, "tag": "y"}) == []
    assert find(metadata={"'); DROP TABLE jobs; --": 1}) == []


def test_deleting_a_set_names_the_layers_that_nobody_needs_any_more(
    embeddings: EmbeddingRecords, add_set: AddSet
) -> None:
    one, two = add_set("x y"), add_set("y z", run=1)
    assert embeddings.delete(one.id) == (one.layers[0].digest,)
    with pytest.raises(NotFound):
        embeddings.get(one.id)
    assert set(embeddings.delete(two.id)) == {layer.digest for layer in two.layers}
    assert embeddings.page(None, 10, metadata={"run": 1}).data == ()


def test_a_set_that_an_unfinished_job_uses_stays(
    embeddings: EmbeddingRecords, jobs: JobRecords, add_set: AddSet, add_job: Callable[..., Job]
) -> None:
    used = add_set("x")
    job = add_job(used, used)
    with pytest.raises(InUse, match=job.id):
        embeddings.delete(used.id)
    jobs.request_cancel(job.id)
    embeddings.delete(used.id)
    assert jobs.get(job.id).id == job.id
