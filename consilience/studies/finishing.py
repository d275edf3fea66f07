"""What needs all cells of a study: corrected p-values, distances, pictures, trends, agreement of metrics."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from consilience.contract.scores import Reason
from consilience.contract.studies import StudyOptions, is_mirrored
from consilience.contract.study_results import (
    Agreement,
    Picture,
    Place,
    StudyCell,
    StudyDocument,
    StudyMatrix,
)
from consilience.numerics.agreement import agree
from consilience.numerics.arrays import Float64Array
from consilience.numerics.layouts import find_distances, order_leaves, smacof
from consilience.numerics.multiplicity import adjust
from consilience.numerics.umap_layouts import ITEMS_MIN, is_installed, umap_places
from consilience.studies.trends import associate, find_factor, find_trend, read_matrix

#: Models that UMAP keeps near, as the article's figure 2 has it.
UMAP_NEIGHBOURS = 10


def finish(options: StudyOptions, document: StudyDocument) -> StudyDocument:
    """The document with what needs all cells."""
    matrices = tuple(_finish_matrix(options, document, matrix) for matrix in document.matrices)
    return document.model_copy(
        update={
            "matrices": matrices,
            "trends": tuple(find_trend(trend, document, each) for trend in options.trends for each in matrices),
            "factors": tuple(find_factor(factor, document, each) for factor in options.factors for each in matrices),
            "agreement": _find_agreement(options, document, matrices),
        }
    )


def _finish_matrix(options: StudyOptions, document: StudyDocument, matrix: StudyMatrix) -> StudyMatrix:
    scores = read_matrix(document, matrix)
    distances = find_distances(scores) if matrix.direction == "similarity" else scores
    update: dict[str, object] = {
        "cells": correct_cells(matrix.cells),
        "distances": _write_distances(document, distances),
    }
    if document.square:
        update |= _picture(options, document, distances)
    return matrix.model_copy(update=update)


def correct_cells(cells: Sequence[StudyCell]) -> tuple[StudyCell, ...]:
    """The cells with p-values corrected for all that have one, by both methods."""
    tested = [place for place, cell in enumerate(cells) if cell.null.p_value is not None]
    p_values = np.array([cells[place].null.p_value for place in tested], dtype=np.float64)
    holm, hochberg = (adjust(p_values, method).tolist() for method in ("holm", "benjamini_hochberg"))
    corrected = {place: (one, other) for place, one, other in zip(tested, holm, hochberg, strict=True)}
    return tuple(
        cell.model_copy(
            update={"p_holm": corrected[place][0], "p_benjamini_hochberg": corrected[place][1]}
            if place in corrected
            else {}
        )
        for place, cell in enumerate(cells)
    )


def _write_distances(document: StudyDocument, distances: Float64Array) -> tuple[tuple[float | None, ...], ...]:
    full = _mirror(distances) if document.square else distances
    return tuple(tuple(float(value) if np.isfinite(value) else None for value in row) for row in full)


def _mirror(distances: Float64Array) -> Float64Array:
    """Distances of models to each other: the mean of both ways where there are both, 0 of a model to itself."""
    with np.errstate(invalid="ignore"):
        both = np.where(
            np.isnan(distances), distances.T, np.where(np.isnan(distances.T), distances, (distances + distances.T) / 2)
        )
    np.fill_diagonal(both, 0.0)
    return np.asarray(both)


def _picture(options: StudyOptions, document: StudyDocument, distances: Float64Array) -> dict[str, object]:
    """Places and an order of the models that have distances to all others."""
    full = _mirror(distances)
    kept, warnings = _leave_out(document, full)
    labels = [document.rows[index].label for index in kept]
    square = full[np.ix_(kept, kept)]
    if not np.isfinite(square).any() or len(kept) < 2:
        reason = Reason(code="undefined-distances", detail="Too few models have distances to each other.")
        return {"pictures": (Picture(method="mds", reason=reason),)}
    far = ~np.isfinite(square)
    if far.any():
        warnings += (f"{int(far.sum()) // 2} pairs without similarity are drawn as far apart as the farthest others.",)
        square = np.where(far, square[~far].max(), square)
    layout = smacof(square)
    mds = Picture(method="mds", places=_write_places(labels, layout.places), stress=layout.stress, warnings=warnings)
    pictures = (mds, _place_by_umap(options, labels, square, warnings)) if options.umap else (mds,)
    return {"pictures": pictures, "order": tuple(labels[leaf] for leaf in order_leaves(square))}


def _leave_out(document: StudyDocument, full: Float64Array) -> tuple[list[int], tuple[str, ...]]:
    """The models without undefined distances, the worst left out first."""
    kept = list(range(len(full)))
    while kept and (undefined := np.isnan(full[np.ix_(kept, kept)]).sum(axis=1)).any():
        del kept[int(undefined.argmax())]
    lost = [member.label for index, member in enumerate(document.rows) if index not in kept]
    return kept, (f"Left out, since some of their scores are undefined: {', '.join(lost)}.",) if lost else ()


def _place_by_umap(
    options: StudyOptions, labels: Sequence[str], square: Float64Array, warnings: tuple[str, ...]
) -> Picture:
    if not is_installed():
        detail = "The packages of studies are not installed: pip install 'consilience[studies]'."
        return Picture(method="umap", reason=Reason(code="missing-extra", detail=detail))
    if len(square) < ITEMS_MIN:
        detail = f"UMAP places {ITEMS_MIN} models or more."
        return Picture(method="umap", reason=Reason(code="too-few-models", detail=detail))
    places = umap_places(square, UMAP_NEIGHBOURS, options.seed)
    return Picture(method="umap", places=_write_places(labels, places), warnings=warnings)


def _write_places(labels: Sequence[str], places: Float64Array) -> tuple[Place, ...]:
    return tuple(Place(label=label, x=float(x), y=float(y)) for label, (x, y) in zip(labels, places, strict=True))


def _find_agreement(
    options: StudyOptions, document: StudyDocument, matrices: Sequence[StudyMatrix]
) -> tuple[Agreement, ...]:
    """Every two metrics; distances count the other way round, so that agreement is above 0."""
    together = document.square and is_mirrored(options)
    scores = [read_matrix(document, each) * (1.0 if each.direction == "similarity" else -1.0) for each in matrices]
    return tuple(
        Agreement(
            first=matrices[i].name,
            second=matrices[j].name,
            spearman=associate(agree(scores[i], scores[j], square=together, seed=options.seed)),
        )
        for i, j in combinations(range(len(matrices)), 2)
    )
