"""Studies of arrays: cells equal the scores of their pairs, and the results of all cells follow from them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.stats import false_discovery_control

from consilience.contract.study_results import StudyDocument
from consilience.errors import InvalidRequest, TooFewRows, UnpairedSides
from consilience.numerics.rows.arrays import Float32Array
from consilience.numerics.stats import layouts
from consilience.scoring import score
from consilience.studies.local import study

N = 110
RNG = np.random.default_rng(4)
LATENT = RNG.normal(size=(N, 6))


def make(noise: float, dim: int = 12, layers: int = 2, seed: int = 0) -> Float32Array:
    """Make a model whose later layers are closer to the latent that all models share."""
    rng = np.random.default_rng(seed)
    made = [
        LATENT @ rng.normal(size=(6, dim)) + (noise + 0.5 * (layers - layer)) * rng.normal(size=(N, dim))
        for layer in range(layers)
    ]
    return np.stack(made, axis=1).astype(np.float32)


MODELS = {f"model {i}": make(0.4 * i, 10 + i, 2 + i % 2, seed=i) for i in range(4)}
OTHERS = {f"other {i}": make(0.3 + 0.5 * i, 14, 3, seed=10 + i) for i in range(3)}
FIELDS = ("status", "value", "calibrated", "layer_a", "layer_b", "null", "interval", "estimator", "warnings")


def assert_equals_pairs(
    found: StudyDocument, rows: Mapping[str, object], columns: Mapping[str, object], **options: Any
) -> None:
    """Compare every cell bit for bit."""
    for number, matrix in enumerate(found.matrices):
        for cell in matrix.cells:
            entry = score(rows[cell.row], columns[cell.column], **options).scores[number]
            for name in FIELDS:
                assert getattr(cell, name) == getattr(entry, name), (cell.row, cell.column, matrix.name, name)


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": [{"metric": "mutual_knn", "k": [3, 8]}, "cka"], "layers": "all", "preparation": "prh"},
        {
            "metrics": ["cknna", "second_order_cosine", "cycle_knn"],
            "layers": "all",
            "null": {"method": "permutation", "permutations": 20},
        },
        {"metrics": ["svcca", "procrustes", "rsa", "linear_predictivity"], "null": "none", "concat": True},
        {
            "metrics": ["mutual_knn", "angular_cka"],
            "estimate": {"queries": 100},
            "aggregate": "hungarian_mean",
            "layers": "all",
        },
    ],
)
def test_cells_equal_the_scores_of_their_pairs(options: dict[str, Any]) -> None:
    rows, columns = dict(list(MODELS.items())[:2]), dict(list(OTHERS.items())[:2])
    found = study(rows, columns, **options)
    assert (found.done, found.total, found.complete) == (4, 4, True)
    assert_equals_pairs(found, rows, columns, **options)


def test_a_square_study_has_one_triangle_of_cells_that_equal_their_pairs() -> None:
    found = study(MODELS, metrics=["mutual_knn", "cka"], layers="all")
    assert found.square
    assert [cell.row[-1] + cell.column[-1] for cell in found.matrices[0].cells] == ["01", "02", "12", "03", "13", "23"]
    assert_equals_pairs(found, MODELS, MODELS, metrics=["mutual_knn", "cka"], layers="all")


def test_a_square_study_of_an_asymmetric_metric_has_both_triangles() -> None:
    found = study(MODELS, metrics="linear_predictivity", null="none", interval=None)
    assert len(found.matrices[0].cells) == 12
    assert_equals_pairs(found, MODELS, MODELS, metrics="linear_predictivity", null="none", interval=None)


def test_each_layer_needs_one_graph_in_the_whole_study() -> None:
    found = study(MODELS, OTHERS, metrics="mutual_knn", layers="all", interval=None)
    layers = sum(rows.shape[1] for rows in (*MODELS.values(), *OTHERS.values()))
    assert found.graphs is not None
    assert (found.graphs.hits, found.graphs.misses) == (0, layers)


def test_one_more_model_does_not_change_the_other_cells() -> None:
    few = study(dict(list(MODELS.items())[:3]), metrics="mutual_knn")
    more = study(MODELS, metrics="mutual_knn")
    strip = {"p_holm": None, "p_benjamini_hochberg": None}
    known = [cell.model_copy(update=strip) for cell in few.matrices[0].cells]
    assert [cell.model_copy(update=strip) for cell in more.matrices[0].cells][: len(known)] == known


def test_p_values_are_corrected_over_the_matrix_by_both_methods() -> None:
    weak = {f"weak {i}": make(4.0 + 2 * i, 14, 1, seed=20 + i) for i in range(4)}
    cells = study(weak, OTHERS, metrics="mutual_knn", interval=None).matrices[0].cells
    p = np.array([cell.null.p_value for cell in cells], dtype=float)
    ranked = np.sort(p)
    holm = np.minimum(1, np.maximum.accumulate(ranked * np.arange(len(p), 0, -1)))
    assert [cell.p_holm for cell in cells] == pytest.approx(holm[np.searchsorted(ranked, p)])
    assert [cell.p_benjamini_hochberg for cell in cells] == pytest.approx(false_discovery_control(p))
    assert len(set(p)) == len(p) == 12  # equal p-values could hide a wrong order
    assert p.min() < 0.05 < p.max()


def test_distances_are_logarithms_and_the_layout_keeps_them() -> None:
    found = study(MODELS, metrics=["mutual_knn", "angular_cka"], interval=None)
    knn, angle = found.matrices
    assert knn.distances is not None
    assert angle.distances is not None
    first = knn.cells[0]
    assert first.value is not None
    assert knn.distances[0][1] == pytest.approx(-np.log(first.value))
    assert knn.distances[1][0] == knn.distances[0][1]
    assert knn.distances[0][0] == 0.0
    assert angle.distances[0][1] == angle.cells[0].value
    (layout,) = knn.layouts
    assert (layout.method, len(layout.coordinates)) == ("mds", 4)
    assert [point.label for point in layout.coordinates] == list(MODELS)
    wanted, drawn = squareform(knn.distances), pdist([(point.x, point.y) for point in layout.coordinates])
    assert layout.stress == pytest.approx(np.sqrt(((drawn - wanted) ** 2).sum() / (wanted**2).sum()))
    assert layout.stress < 0.5
    tree = leaves_list(linkage(wanted, "average", optimal_ordering=True))
    assert knn.dendrogram_order in {tuple(f"model {leaf}" for leaf in order) for order in (tree, tree[::-1])}


def test_rows_against_columns_have_distances_and_no_layout() -> None:
    matrix = study(MODELS, OTHERS, metrics="mutual_knn", interval=None).matrices[0]
    assert matrix.distances is not None
    assert (len(matrix.distances), len(matrix.distances[0])) == (4, 3)
    assert (matrix.layouts, matrix.dendrogram_order) == ((), None)


def test_a_model_without_scores_has_a_reason_and_is_left_out_of_the_layout() -> None:
    models = {**MODELS, "constant": np.ones((N, 3), np.float32)}
    matrix = study(models, metrics="mutual_knn", interval=None).matrices[0]
    bad = [cell for cell in matrix.cells if "constant" in (cell.row, cell.column)]
    assert len(bad) == 4
    for cell in bad:
        assert (cell.status, cell.value, cell.p_holm) == ("undefined", None, None)
        assert cell.reason is not None
        assert cell.reason.code == "constant-rows"
    assert matrix.dendrogram_order is not None
    assert "constant" not in matrix.dendrogram_order
    assert "constant" in matrix.layouts[0].warnings[0]
    assert matrix.distances is not None
    assert matrix.distances[4][:4] == (None,) * 4


def test_models_without_any_similarity_get_the_largest_distance() -> None:
    # Given two pairs of the same rows that have no neighbour in common
    ring = np.arange(N)
    left, right = (
        np.stack([np.cos(at), np.sin(at)], axis=1) for at in (ring * 2 * np.pi / N, ring * 2 * np.pi * 37 / N)
    )
    models = {"a": left, "b": left * 2, "c": right, "d": right * 3}
    matrix = study(models, metrics=[{"metric": "mutual_knn", "k": 2}], interval=None).matrices[0]
    assert matrix.distances is not None
    assert (matrix.distances[0][1], matrix.distances[0][2]) == (0.0, None)
    assert "get the largest distance" in matrix.layouts[0].warnings[0]


def test_umap_without_its_extra_gives_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consilience.studies.analysis.is_umap_installed", lambda: False)
    layout = study(MODELS, metrics="mutual_knn", interval=None, umap=True).matrices[0].layouts[1]
    assert (layout.method, layout.coordinates) == ("umap", ())
    assert layout.reason is not None
    assert layout.reason.code == "missing-extra"


@pytest.mark.skipif(not layouts.is_umap_installed(), reason="the package of UMAP is an extra")
def test_umap_gives_coordinates_by_label() -> None:
    # Given two families of models; in a process that compiles nothing, which is the faster for a dozen items
    code = """
import numpy as np
from consilience.studies.local import study
rng = np.random.default_rng(0)
latents = rng.normal(size=(2, 60, 4))
models = {f"{i % 2} {i}": latents[i % 2] + 0.3 * rng.normal(size=(60, 4)) for i in range(14)}
matrix = study(models, metrics="cka", interval=None, null="none", umap=True).matrices[0]
mds, umap = matrix.layouts
for layout in (mds, umap):
    assert [point.label for point in layout.coordinates] == list(models), layout
    at = np.array([(point.x, point.y) for point in layout.coordinates])
    apart = np.linalg.norm(at[:, None] - at, axis=2)
    near = np.where(np.eye(14, dtype=bool), np.inf, apart).argmin(axis=1)
    assert (near % 2 == np.arange(14) % 2).all(), (layout.method, near)
assert (mds.method, umap.method, umap.reason) == ("mds", "umap", None)
assert [label[0] for label in matrix.dendrogram_order] in (["0"] * 7 + ["1"] * 7, ["1"] * 7 + ["0"] * 7)
"""
    env = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], env=env)


def test_metrics_agree_as_far_as_they_rank_cells_alike() -> None:
    found = study(MODELS, OTHERS, metrics=["mutual_knn", "jaccard_knn", "angular_cka"], interval=None, null="none")
    pairs = {(entry.first.split(":")[0], entry.second.split(":")[0]): entry.spearman for entry in found.agreement}
    assert len(pairs) == 3
    alike, angle = pairs["mutual_knn", "jaccard_knn"], pairs["mutual_knn", "angular_cka"]
    assert alike is not None
    assert alike.value > 0.95
    assert angle is not None
    assert angle.value > 0  # distances change sign


@pytest.mark.parametrize(
    ("models", "options", "error", "words"),
    [
        ({"only": MODELS["model 0"]}, {}, InvalidRequest, "at least 2 models; got 1"),
        (
            {**MODELS, "short": MODELS["model 0"][:50]},
            {},
            UnpairedSides,
            "model 0 and short: a has 110 rows and b has 50",
        ),
        ({"a": np.ones((3, 2)), "b": np.ones((3, 2))}, {}, TooFewRows, "3 rows"),
        (MODELS, {"trends": [{"by": "params"}]}, InvalidRequest, "4 of 4 models have no number 'params'"),
        (
            MODELS,
            {"trends": [{"by": "width", "reference": "nobody"}]},
            InvalidRequest,
            "has no model with the label 'nobody'",
        ),
        (MODELS, {"factors": [{"by": "depth"}]}, InvalidRequest, "have the same level"),
        (
            MODELS,
            {"differences": [{"first": "model 0", "second": "model 1", "reference": "model 1"}]},
            InvalidRequest,
            "needs three different models: first, second and reference",
        ),
    ],
)
def test_models_that_cannot_be_compared_are_refused_with_their_labels(
    models: dict[str, Any], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        study(models, metrics="mutual_knn", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gallery_sizes": "auto"}, "no gallery-size curves"),
        (
            {"null": {"correction": "holm"}},
            "^A study does not have `null.correction`: it always reports both corrections",
        ),
        ({"trends": [{"by": "width", "bins": [3, 2]}]}, "^/trends/0: The bin edges must be in rising order"),
        (
            {"trends": [{"by": "width", "unknown": 1}]},
            "^/trends/0/unknown: There is no field 'unknown'; allowed: by, side, ",
        ),
    ],
)
def test_invalid_options_of_a_study_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        study(MODELS, **options)


def test_metadata_of_an_unknown_model_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="ghost"):
        study(MODELS, metrics="mutual_knn", metadata={"ghost": {"params": 1}})
