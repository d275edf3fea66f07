import subprocess
import sys

import pytest

from consilience.errors import InvalidRequest, Unavailable
from consilience.numerics.knn import devices
from consilience.numerics.knn.devices import Gpu, check_device, explain_missing_gpu, find_gpu

ABSENT = explain_missing_gpu()
CARDS = (Gpu("cuda:0", "NVIDIA H100"), Gpu("cuda:1", "NVIDIA A100"))


@pytest.mark.parametrize("word", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:0 ", "cuda:100", "mps", "cpu:0"])
def test_a_word_that_is_no_device_is_refused(word: str) -> None:
    with pytest.raises(InvalidRequest, match="is no device") as refused:
        find_gpu(word)
    assert "auto, cpu, cuda" in str(refused.value)


@pytest.mark.skipif(ABSENT is None, reason="there may be a card here")
def test_asking_for_a_card_where_there_is_none_says_what_was_found() -> None:
    for ask in (check_device, find_gpu):
        with pytest.raises(Unavailable) as refused:
            ask("cuda:1")
        assert str(ABSENT) in str(refused.value)
        assert refused.value.value == "cuda:1"


@pytest.mark.skipif(ABSENT is None, reason="there may be a card here")
def test_where_there_is_no_card_nobody_loads_torch_to_find_that_out() -> None:
    code = (
        "import sys; from consilience.numerics.knn.devices import find_card;"
        "sys.exit(find_card('auto') is not None or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def _two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "explain_absence", lambda: None)
    monkeypatch.setattr(devices, "_list_cards", lambda: CARDS)


@pytest.mark.usefixtures("_two_cards")
@pytest.mark.parametrize(("word", "number"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_cards_are_numbered_as_torch_does(word: str, number: int) -> None:
    assert find_gpu(word) == CARDS[number]
    assert str(CARDS[0]) == "cuda:0 NVIDIA H100"
    assert find_gpu("cpu") is None


@pytest.mark.usefixtures("_two_cards")
def test_a_number_beyond_the_last_names_those_that_there_are() -> None:
    with pytest.raises(Unavailable, match=r"no device cuda:2: torch sees cuda:0 NVIDIA H100, cuda:1 NVIDIA A100\."):
        find_gpu("cuda:2")


def test_a_driver_without_a_card_leaves_it_to_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "explain_absence", lambda: None)
    monkeypatch.setattr(devices, "_list_cards", tuple)
    assert find_gpu("auto") is None
    with pytest.raises(Unavailable, match="torch sees none"):
        find_gpu("cuda")


def test_each_thing_that_can_be_missing_has_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "version", lambda _: "2.13.0+cpu")
    assert "built for the processor alone" in str(explain_missing_gpu())
    monkeypatch.setattr(devices, "version", lambda _: "2.13.0+cu130")
    monkeypatch.setattr(devices, "DRIVER_FILES", ())
    assert "no NVIDIA driver" in str(explain_missing_gpu())
