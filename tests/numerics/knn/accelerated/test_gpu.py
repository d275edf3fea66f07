"""GPU search, run on the CPU and, if there is one, on a GPU."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consilience.numerics.knn import build
from consilience.numerics.knn.accelerated import gpu
from consilience.numerics.knn.accelerated.gpu import (
    GpuOutOfMemory,
    Operands,
    build_on_gpu,
    keep_float32,
    round_for_gpu,
    search,
)
from consilience.numerics.knn.build import build_graph
from consilience.numerics.knn.devices import Gpu
from consilience.numerics.knn.symmetric import build_symmetric
from consilience.numerics.knn.tie_break import RoundedRows
from tests.hostile_rows import (
    HOSTILE,
    Draw,
    Rows,
    clusters,
    draw_case,
    near_ties,
    normal,
    rounding_ties,
    sort_all,
    underflowing,
)
from tests.small_gpu import SmallGpu

Precision = Callable[[Rows], RoundedRows]

ON_CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
DEVICES = ["cpu", pytest.param("cuda:0", marks=ON_CARD)]
PRECISIONS = [(round_for_gpu, keep_float32), (round_for_gpu,), (keep_float32,)]
#: Tiles of 64 rows and columns: everything goes through in pieces.
LITTLE = 700_000


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precisions", PRECISIONS, ids=["both", "bfloat16", "float32"])
@pytest.mark.parametrize(("d", "scale"), [(8, 0), (100, 0), (100, -70), (8, 58)])
@pytest.mark.parametrize("draw", HOSTILE)
def test_hostile_rows_have_the_graph_of_the_cpu_bit_for_bit(
    draw: Draw, d: int, scale: int, precisions: Sequence[Precision], device: str
) -> None:
    x = np.ldexp(draw(np.random.default_rng(d), 300, d), scale)
    here, there = build_symmetric(x, 10), build_on_gpu(x, 10, device=device, budget=LITTLE, precisions=precisions)
    np.testing.assert_array_equal(there.ids, here.ids)
    np.testing.assert_array_equal(there.similarities, here.similarities)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(HOSTILE), st.integers(5, 150), st.integers(1, 8), st.integers(0, 2**32 - 1), st.data())
def test_the_graph_is_that_of_the_cpu_with_groups_and_any_k(
    draw: Draw, n: int, d: int, seed: int, data: st.DataObject
) -> None:
    x, groups, k = draw_case(draw, n, d, seed, data)
    np.testing.assert_array_equal(build_on_gpu(x, k, groups, device="cpu").ids, sort_all(x, k, groups))


@pytest.mark.parametrize("device", DEVICES)
def test_unit_rows_have_the_neighbours_of_the_cpu_up_to_rounding(device: str) -> None:
    x = normal(np.random.default_rng(0), 2500, 96)
    here, there = build_symmetric(x, 10), build_on_gpu(x, 10, device=device)
    np.testing.assert_allclose(there.similarities, here.similarities, rtol=0, atol=1e-6)
    assert (there.ids == here.ids).mean() > 0.998
    assert there.verified == 1.0


def test_rows_need_not_fit_in_memory() -> None:
    x = near_ties(np.random.default_rng(0), 1500, 200)
    with SmallGpu(limit_bytes=LITTLE) as card:
        there = build_on_gpu(x, 10, device="cpu", budget=LITTLE)
    assert x.nbytes > LITTLE
    assert card.refused == 0
    np.testing.assert_array_equal(there.ids, build_symmetric(x, 10).ids)


def test_tiles_are_halved_when_the_gpu_runs_out_of_memory() -> None:
    x = near_ties(np.random.default_rng(0), 700, 16)
    with SmallGpu(limit_bytes=300_000) as card:
        there = build_on_gpu(x, 10, device="cpu")
    assert card.refused > 1
    np.testing.assert_array_equal(there.ids, build_symmetric(x, 10).ids)


def test_a_gpu_too_small_for_any_tile_is_an_error() -> None:
    x = near_ties(np.random.default_rng(0), 700, 16)
    with SmallGpu(limit_bytes=1000), pytest.raises(GpuOutOfMemory):
        build_on_gpu(x, 10, device="cpu")
    with pytest.raises(GpuOutOfMemory):
        build_on_gpu(x, 10, device="cpu", budget=1000)


def test_other_errors_are_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "mm", break_down)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        build_on_gpu(near_ties(np.random.default_rng(0), 200, 8), 10, device="cpu")


def test_the_graph_names_the_device_and_why_the_gpu_was_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    x = near_ties(np.random.default_rng(0), 700, 16)
    here = build_graph(x, 10)
    monkeypatch.setattr(build, "find_gpu", lambda _: Gpu("cpu", "of the tests"))  # torch on the CPU stands in for a GPU
    found = build_graph(x, 10, device="cuda")
    assert (here.device, here.builder) == ("cpu", "symmetric")
    assert (found.device, found.builder) == ("cpu of the tests", "verified_bf16")
    with SmallGpu(limit_bytes=1000):
        fallen_back = build_graph(x, 10, device="cuda")
    assert fallen_back.device == "cpu (cpu of the tests: out of memory)"
    for graph in (found, fallen_back):
        np.testing.assert_array_equal(graph.ids, here.ids)
        assert type(graph).from_bytes(graph.to_bytes()).device == graph.device


def test_the_gpu_is_not_used_for_small_searches_or_cpu_builders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build, "find_gpu", lambda _: Gpu("cuda:0", "of the tests"))
    assert build.choose_gpu(2000, 64, "auto", "auto") is None
    assert build.choose_gpu(200_000, 64, "symmetric", "cuda") is None
    assert build.choose_gpu(200_000, 64, "auto", "auto") is not None
    assert build.choose_gpu(2000, 64, "verified_bf16", "cuda:0") is not None


def test_a_gpu_without_bfloat16_searches_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_choose", lambda _: (keep_float32,))
    graph = build_on_gpu(normal(np.random.default_rng(0), 300, 8), 10, device="cpu")
    assert (graph.builder, graph.verified) == ("verified_f32", 1.0)


def test_progress_is_reported() -> None:
    reported = list[int]()
    build_on_gpu(clusters(np.random.default_rng(0), 700, 8), 5, report=reported.append, device="cpu", budget=LITTLE)
    assert reported == sorted(reported)
    assert reported[-1] == 700
    assert len(reported) > 20


def test_the_settings_of_torch_are_restored() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision, matmul.allow_bf16_reduced_precision_reduction = "tf32", True
    try:
        with SmallGpu(limit_bytes=1000), pytest.raises(GpuOutOfMemory):
            build_on_gpu(near_ties(np.random.default_rng(0), 200, 8), 5, device="cpu")
        assert matmul.fp32_precision == "tf32"
        assert matmul.allow_bf16_reduced_precision_reduction is True
    finally:
        matmul.fp32_precision = before


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", [round_for_gpu, keep_float32])
@pytest.mark.parametrize("d", [1, 8, 300])
@pytest.mark.parametrize("draw", [*HOSTILE, rounding_ties, underflowing, normal])
def test_no_error_of_a_similarity_exceeds_its_bound(draw: Draw, d: int, precision: Precision, device: str) -> None:
    x = draw(np.random.default_rng(d), 260, d)
    n, rounded = len(x), precision(x)
    rows = np.arange(n, dtype=np.int32)
    operands = Operands(gpu._as_tensor(rounded), rounded.shifts.astype(np.float32), rows, grouped=False)
    with gpu.full_precision(torch.device(device)):
        (found,) = search(operands, rows, n - 1, device=torch.device(device), budget=None, report=lambda _: None)
    errors = rounded.errors(rows, found.similarities[:, [0, -1]])
    true = np.take_along_axis(x.astype(np.float64) @ x.astype(np.float64).T, found.ids.astype(np.intp), axis=1)
    assert (np.abs(found.similarities - true) <= errors[:, None]).all()


def truncate(values: npt.NDArray[np.float64], exponent: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Truncate values below 2 to the exponent to 24 bits."""
    return np.ldexp(np.trunc(np.ldexp(values, 24 - exponent)), exponent - 24)


def multiply_like_tensor_cores(a: Rows, b: Rows, step: int) -> npt.NDArray[np.float64]:
    """Compute inner products: `step` products and the sum so far are aligned to the largest, truncated and added."""
    products = a.astype(np.float64) * b
    total = np.zeros(len(a))
    for start in range(0, a.shape[1], step):
        terms = np.column_stack([total, products[:, start : start + step]])
        exponent = np.frexp(np.abs(terms).max(axis=1))[1].astype(np.int64)
        added = truncate(terms, exponent[:, None]).sum(axis=1)
        total = truncate(added, np.frexp(added)[1].astype(np.int64))
    return total


@pytest.mark.parametrize("step", [4, 8, 16])
@pytest.mark.parametrize("d", [1, 2, 3, 5, 16, 17, 300, 1024])
def test_truncated_sums_stay_within_the_error_constant(d: int, step: int) -> None:
    rng = np.random.default_rng(d)
    a, b = (np.abs(torch.from_numpy(rng.normal(size=(300, d))).bfloat16().float().numpy()) for _ in range(2))
    b[::2] *= np.where(rng.random((150, d)) < 0.5, -1, 1).astype(np.float32)
    off = np.abs(multiply_like_tensor_cores(a, b, step) - (a.astype(np.float64) * b).sum(axis=1))
    rounded = round_for_gpu(near_ties(rng, 4, d))
    assert (off <= d * rounded.summing * np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).all()


def test_the_cpu_search_imports_no_torch_for_any_device() -> None:
    code = (
        "import sys, numpy as np; from consilience.numerics.knn.build import build_graph;"
        "build_graph(np.eye(500, 8, dtype=np.float32), 5, device='auto'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
