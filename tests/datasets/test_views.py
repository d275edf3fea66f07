import pytest

from consilience.datasets.views import OpenDataset, TextView
from consilience.errors import BadItem, UnknownView

DATASET = OpenDataset(
    "words",
    ("a", "b", "c"),
    (TextView("text", "text", ("one", "two", "three")), TextView("code", "code", ("1", "2", "3"))),
)


def test_a_view_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnknownView, match=r"has no view 'image'; it has: text, code\.") as caught:
        DATASET.view("image")
    assert caught.value.limit == ["text", "code"]


def test_a_selection_has_the_items_in_the_order_asked_for() -> None:
    chosen = DATASET.select(["c", "a"])
    assert chosen.ids == ("c", "a")
    assert chosen.view("text").read(0, 2) == ["three", "one"]
    assert (chosen.view("code").n, chosen.view("code").kind, chosen.view("code").name) == (2, "code", "code")


@pytest.mark.parametrize(("ids", "said"), [(["a", "z"], "has no item 'z'"), (["a", "b", "a"], "chosen twice")])
def test_an_item_that_is_not_there_or_comes_twice_cannot_be_selected(ids: list[str], said: str) -> None:
    with pytest.raises(BadItem, match=said):
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
