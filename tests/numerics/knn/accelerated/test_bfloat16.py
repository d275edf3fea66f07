import multiprocessing
import os
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilience.numerics.knn import build
from consilience.numerics.knn.accelerated import bfloat16
from consilience.numerics.knn.accelerated.bfloat16 import build_verified
from consilience.numerics.knn.graph import NeighbourGraph, build_exact
from consilience.numerics.knn.tie_break import read_end_similarities
from consilience.numerics.knn.tile_kernels import read_keys
from tests.hostile_rows import (
    HOSTILE,
    Draw,
    Rows,
    anisotropic,
    clusters,
    draw_case,
    near_ties,
    normal,
    rounding_ties,
    some_zero_rows,
    sort_all,
    underflowing,
)
from tests.reference_implementations import basic


@pytest.mark.parametrize("scale", [0, -70, 58], ids=["", "tiny", "huge"])
@pytest.mark.parametrize("d", [8, 100])
@pytest.mark.parametrize("draw", HOSTILE)
def test_hostile_rows_have_the_neighbours_of_a_full_float64_sort(draw: Draw, d: int, scale: int) -> None:
    x = np.ldexp(draw(np.random.default_rng(d), 1100, d), scale)
    graph = build_verified(x, 10)
    np.testing.assert_array_equal(graph.ids, sort_all(x, 10))
    assert graph.builder == "verified_bf16"


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(HOSTILE), st.integers(5, 300), st.integers(1, 8), st.integers(0, 2**32 - 1), st.data())
def test_neighbours_are_those_of_a_full_sort_with_groups_and_any_k(
    draw: Draw, n: int, d: int, seed: int, data: st.DataObject
) -> None:
    x, groups, k = draw_case(draw, n, d, seed, data)
    np.testing.assert_array_equal(build_verified(x, k, groups).ids, sort_all(x, k, groups))


def test_anisotropic_rows_have_a_mean_cosine_as_in_language_models() -> None:
    unit = basic.unit_rows(anisotropic(np.random.default_rng(0), 1100, 8))
    assert (unit @ unit.T).mean() > 0.85


@pytest.mark.parametrize(("n", "d", "k"), [(700, 24, 48), (2500, 96, 10), (1025, 768, 48), (600, 3, 10)])
def test_unit_rows_have_the_neighbours_of_a_flat_search_up_to_rounding(n: int, d: int, k: int) -> None:
    x = basic.unit_rows(np.random.default_rng(n).normal(size=(n, d))).astype(np.float32)
    found, flat = build_verified(x, k), build_exact(x, k)
    np.testing.assert_allclose(found.similarities, flat.similarities, rtol=0, atol=1e-6)
    assert (found.ids == flat.ids).mean() > 0.998


def _found(x: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return every similarity computed in bfloat16, and the error bound of each row."""
    n = len(x)
    rounded, rows = bfloat16.round_centred(x), np.arange(n, dtype=np.int32)
    found = bfloat16._search(rounded, rows, n - 1, None)
    keys = found.best()
    ids, near = np.empty(keys.shape, np.int32), np.empty(keys.shape, np.float32)
    read_keys(keys, 0, n, ids, near)
    errors = rounded.errors(rows, read_end_similarities(keys, found.counts))
    similarity = np.zeros((n, n))
    np.put_along_axis(similarity, ids.astype(np.intp), near.astype(np.float64), axis=1)
    return similarity, errors


@pytest.mark.parametrize("d", [1, 8, 300])
@pytest.mark.parametrize("draw", [*HOSTILE, rounding_ties, underflowing, normal])
def test_no_error_of_a_similarity_exceeds_its_bound(draw: Draw, d: int) -> None:
    x = draw(np.random.default_rng(d), 260, d)
    found, errors = _found(x)
    off = np.abs(found - x.astype(np.float64) @ x.astype(np.float64).T)
    np.fill_diagonal(off, 0)
    assert (off <= errors[:, None]).all()


def test_the_bound_is_no_looser_than_its_constants() -> None:
    x = normal(np.random.default_rng(1), 400, 256)
    _, errors = _found(x)
    assert errors.max() < (2.0**-7 + 2.0**-16 + 256 * 2.0**-23) * 1.01 + 2.0**-8 * 0.5


def test_rounding_errors_can_reach_the_first_and_the_last_constant() -> None:
    import torch

    x = torch.full((1, 64), 1 + 2.0**-8)
    product = float(x.bfloat16()[0] @ x.bfloat16()[0])
    assert (float(x[0].double() @ x[0].double()) - product) / product == pytest.approx(2.0**-7 + 2.0**-16)
    tie = torch.tensor([[1.0, 2.0**-8]]).bfloat16()
    assert float(torch.mm(tie, torch.ones(2, 1).bfloat16())) == 1.0  # and not 1 + 2^-8


def test_unstructured_rows_are_verified_and_clusters_and_copies_are_not() -> None:
    assert 0 < (build_verified(clusters(np.random.default_rng(0), 1100, 100), 10).verified or 0) < 0.9
    assert build_verified(normal(np.random.default_rng(0), 3000, 256), 10).verified == 1.0
    assert build_verified(np.ones((300, 8), np.float32), 10).verified == 0.0


def test_the_verified_share_is_serialised_with_the_graph() -> None:
    graph = build_verified(some_zero_rows(np.random.default_rng(0), 500, 8), 10)
    assert graph.verified == pytest.approx(0.67, abs=0.1)
    assert NeighbourGraph.from_bytes(graph.to_bytes()).verified == graph.verified


def test_progress_is_reported_and_torch_threads_are_restored() -> None:
    import torch

    threads, reported = torch.get_num_threads(), list[int]()
    build_verified(normal(np.random.default_rng(0), 2000, 4), 5, report=reported.append)
    assert reported == sorted(reported)
    assert reported[-1] == 2000
    assert torch.get_num_threads() == threads


def test_a_processor_without_bfloat16_products_gets_the_same_graph() -> None:
    code = (
        "import numpy as np, sys; from consilience.numerics.knn.accelerated.bfloat16 import build_verified;"
        "x = np.random.default_rng(0).integers(-900, 900, size=(700, 8)).astype(np.float32);"
        "sys.stdout.buffer.write(build_verified(x, 10).ids.tobytes())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "avx2"},
    )
    x = np.random.default_rng(0).integers(-900, 900, size=(700, 8)).astype(np.float32)
    np.testing.assert_array_equal(np.frombuffer(ran.stdout, np.int32).reshape(700, 10), sort_all(x, 10))


def test_auto_chooses_it_for_long_searches_on_processors_with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "is_native", lambda: True)
    assert build.choose_builder(200_000, 768) == "verified_bf16"
    assert build.choose_builder(2000, 768) == "symmetric"
    monkeypatch.setattr(build, "is_native", lambda: False)
    assert build.choose_builder(200_000, 768) == "symmetric"


def _search(pipe: "multiprocessing.connection.Connection") -> None:
    pipe.send(build_verified(near_ties(np.random.default_rng(0), 1500, 8), 10).ids)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_searches_after_its_parent() -> None:
    fork = multiprocessing.get_context("fork")
    ids = build_verified(near_ties(np.random.default_rng(0), 1500, 8), 10).ids
    here, there = fork.Pipe()
    child = fork.Process(target=_search, args=(there,))
    child.start()
    assert here.poll(60)
    np.testing.assert_array_equal(here.recv(), ids)
    child.join(10)
    assert child.exitcode == 0
