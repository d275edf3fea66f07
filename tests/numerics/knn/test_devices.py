import subprocess
import sys

import pytest

from consilience.errors import InvalidRequest, Unavailable
from consilience.numerics.knn import devices
from consilience.numerics.knn.devices import Gpu, check_device, explain_missing_gpu, find_gpu

ABSENT = explain_missing_gpu()
GPUS = (Gpu("cuda:0", "NVIDIA H100"), Gpu("cuda:1", "NVIDIA A100"))


@pytest.mark.parametrize("word", ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:0 ", "cuda:100", "mps", "cpu:0"])
def test_an_invalid_device_name_is_an_error(word: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a device") as refused:
        find_gpu(word)
    assert "auto, cpu, cuda" in str(refused.value)


@pytest.mark.skipif(ABSENT is None, reason="there may be a GPU")
def test_a_missing_gpu_is_an_error_with_the_reason() -> None:
    for check in (check_device, find_gpu):
        with pytest.raises(Unavailable) as refused:
            check("cuda:1")
        assert str(ABSENT) in str(refused.value)
        assert refused.value.value == "cuda:1"


@pytest.mark.skipif(ABSENT is None, reason="there may be a GPU")
def test_without_a_gpu_torch_is_not_imported() -> None:
    code = (
        "import sys; from consilience.numerics.knn.devices import find_gpu;"
        "sys.exit(find_gpu('auto') is not None or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def _two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "explain_missing_gpu", lambda: None)
    monkeypatch.setattr(devices, "_list_gpus", lambda: GPUS)


@pytest.mark.usefixtures("_two_gpus")
@pytest.mark.parametrize(("word", "number"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_gpus_have_the_numbers_of_torch(word: str, number: int) -> None:
    assert find_gpu(word) == GPUS[number]
    assert str(GPUS[0]) == "cuda:0 NVIDIA H100"
    assert find_gpu("cpu") is None


@pytest.mark.usefixtures("_two_gpus")
def test_a_number_beyond_the_last_is_an_error_that_names_all_gpus() -> None:
    with pytest.raises(
        Unavailable, match=r"device cuda:2 is not available: torch finds cuda:0 NVIDIA H100, cuda:1 NVIDIA A100\."
    ):
        find_gpu("cuda:2")


def test_a_driver_without_a_gpu_selects_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "explain_missing_gpu", lambda: None)
    monkeypatch.setattr(devices, "_list_gpus", tuple)
    assert find_gpu("auto") is None
    with pytest.raises(Unavailable, match="torch finds no GPU"):
        find_gpu("cuda")


def test_each_missing_requirement_has_its_own_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "version", lambda _: "2.13.0+cpu")
    assert "built without CUDA" in str(explain_missing_gpu())
    monkeypatch.setattr(devices, "version", lambda _: "2.13.0+cu130")
    monkeypatch.setattr(devices, "DRIVER_FILES", ())
    assert "no NVIDIA driver" in str(explain_missing_gpu())
