"""Claims about words, code and images: their spaces agree, and more so with more detailed words."""

import numpy as np
from matplotlib.axes import Axes

from consilience.client.sync import Client
from consilience.contract.study_results import FactorResult, StudyCell, StudyMatrix
from examples.claims.data import DATA
from examples.claims.finding import Finding

SCENES = "scenes:n=512,seed=0"
PICTURES, WORDS = "baseline:pixels", "baseline:tfidf-svd"
CAPTIONS = tuple(f"caption_{level}" for level in range(1, 6))


def docstrings(client: Client) -> Finding:
    """Test whether docstrings and code agree more in deeper layers of a language model."""
    sides = {side: np.load(DATA / f"dev_{side}.npy") for side in ("docs", "code")}
    rows, columns = (
        {
            f"{side} {layer}": client.upload(np.ascontiguousarray(values[:, layer]), name=f"{side} {layer}")
            for layer in range(7)
        }
        for side, values in sides.items()
    )
    depths = {f"{side} {layer}": {"depth_of": layer} for side in sides for layer in range(7)}
    document = client.study(
        rows, columns, metrics=["mutual_knn", "cka"], metadata=depths, trends=[{"by": "depth_of"}]
    ).wait()
    grid = {(cell.row, cell.column): cell for cell in document.matrices[0].cells}
    best = max(grid.values(), key=lambda cell: cell.value or 0.0)
    trend = next(each for each in document.trends if each.metric.startswith("mutual_knn"))
    assert trend.spearman is not None  # noqa: S101 - seven layers of different depth

    def draw(axes: Axes) -> None:
        picture = axes.imshow(
            np.array([[grid[row, column].value for column in columns] for row in rows], dtype=float), origin="lower"
        )
        axes.set(xlabel="layer on code", ylabel="layer on docstrings")
        axes.figure.colorbar(picture, label="mutual_knn, k = 10")

    return Finding(
        name="docstrings",
        title="Docstrings and code: do two ways to say the same agree?",
        claim="Representations of the same things in different modalities converge.",
        setup="512 functions of Python's standard library; every layer of all-MiniLM-L6-v2 on their docstrings against every "
        "layer on their code: 49 pairs, p corrected over all.",
        columns=("layer on docstrings", *(f"on code {layer}" for layer in range(7))),
        rows=[[row.split()[1], *(grid[row, column].value for column in columns)] for row in rows],
        verdict=f"The best pair is {best.row} with {best.column}, {best.value:.3f} where chance is {best.null.mean:.3f} (p "
        f"{best.p_holm:.2g} after Holm). Depth on docstrings and agreement with all layers on code: Spearman "
        f"{trend.spearman.value:+.2f} (p {trend.spearman.p_value:.2g}). One model reads both, and words that both have explain "
        "a part; `captions` takes that away.",
        draw=draw,
    )


def captions(client: Client) -> Finding:
    """Test whether images agree with words, and more with longer captions."""
    pictures = client.extract(PICTURES, SCENES, view="image").wait()
    words = {view: client.extract(WORDS, SCENES, view=view).wait().embedding for view in (*CAPTIONS, "code")}
    levels = {view: {"density": level} for level, view in enumerate(CAPTIONS, 1)}
    factor = {"by": "density", "side": "rows", "value": "calibrated"}
    metrics = ["mutual_knn", "cka"]
    document = client.study(
        {view: words[view] for view in CAPTIONS},
        {"pictures": pictures.embedding},
        metrics=metrics,
        metadata=levels,
        factors=[factor],
    ).wait()
    with_code = client.study({"code": words["code"]}, {"pictures": pictures.embedding}, metrics=metrics).wait()
    cells = {view: _cells(document.matrices, view) for view in CAPTIONS}
    curves = np.array([[cell.calibrated for cell in pair] for pair in cells.values()], dtype=float)
    cells["code"] = _cells(with_code.matrices, "code")

    def draw(axes: Axes) -> None:
        for place, name in enumerate(metrics):
            axes.plot(range(1, 6), curves[:, place], marker="o", label=name)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set(
            xlabel="level of detail of the caption", ylabel="calibrated agreement with the pictures", xticks=range(1, 6)
        )
        axes.legend(frameon=False)

    return Finding(
        name="captions",
        title="Pictures and words: do denser captions agree more with the pictures?",
        claim="The more a caption says, the better its representation agrees with that of the picture.",
        setup="512 scenes, each a small program, the picture that it draws, and captions at five levels of detail. Neither "
        f"side has learned anything but these items: `{PICTURES}` of the pictures, `{WORDS}` of the words.",
        columns=("words", "mutual_knn", "chance", "low", "high", "p (Holm)", "cka", "calibrated"),
        rows=[
            [view, knn.value, knn.null.mean, *_bounds(knn), knn.p_holm, cka.value, cka.calibrated]
            for view, (knn, cka) in cells.items()
        ],
        verdict=f"{_say_factors(document.factors)}. Five levels can give no p below 1/120.",
        draw=draw,
    )


def _say_factors(factors: tuple[FactorResult, ...]) -> str:
    return "; ".join(
        f"{each.metric}: rank correlation of level and agreement {each.value:+.2f} (p {each.p_value:.2g})"
        for each in factors
        if each.value is not None and each.p_value is not None
    )


def _cells(matrices: tuple[StudyMatrix, ...], row: str) -> tuple[StudyCell, StudyCell]:
    found = [next(cell for cell in matrix.cells if cell.row == row) for matrix in matrices]
    return found[0], found[1]


def _bounds(cell: StudyCell) -> tuple[float | None, float | None]:
    return (cell.interval.low, cell.interval.high) if cell.interval else (None, None)
