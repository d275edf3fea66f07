import pytest

from consilience.datasets.views import OpenDataset, TextView
from consilience.errors import BadItem, UnknownView

DATASET = OpenDataset(
    "words",
    ("a", "b", "c"),
    (TextView("text", "text", ("one", "two", "three")), TextView("code", "code", ("1", "2", "3"))),
)


def test_an_unknown_view_is_refused_with_the_existing_ones() -> None:
    with pytest.raises(UnknownView, match=r"has no view 'image'; its views are: text, code\.") as caught:
        DATASET.view("image")
    assert caught.value.limit == ["text", "code"]


def test_a_selection_has_the_items_in_the_requested_order() -> None:
    chosen = DATASET.select(["c", "a"])
    assert chosen.ids == ("c", "a")
    assert chosen.view("text").read(0, 2) == ["three", "one"]
    assert (chosen.view("code").n, chosen.view("code").kind, chosen.view("code").name) == (2, "code", "code")


@pytest.mark.parametrize(("ids", "message"), [(["a", "z"], "has no item 'z'"), (["a", "b", "a"], "chosen twice")])
def test_unknown_and_duplicate_items_cannot_be_selected(ids: list[str], message: str) -> None:
    with pytest.raises(BadItem, match=message):
        DATASET.select(ids)


def test_the_digest_changes_with_an_id_a_name_a_kind_and_an_item() -> None:
    text = TextView("text", "text", ("one", "two"))
    others = (
        OpenDataset("x", ("a", "c"), (text,)),
        OpenDataset("x", ("a", "b"), (TextView("words", "text", text.items),)),
        OpenDataset("x", ("a", "b"), (TextView("text", "code", text.items),)),
        OpenDataset("x", ("a", "b"), (TextView("text", "text", ("onet", "wo")),)),
    )
    digest = OpenDataset("x", ("a", "b"), (text,)).digest
    assert len({digest, *(other.digest for other in others)}) == 5
    assert OpenDataset("another name", ("a", "b"), (text,)).digest == digest
