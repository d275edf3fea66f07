"""Claims about the score itself: the effect of the gallery size, and the meaning of 0.16."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from consilience.client.sync import Client
from consilience.contract.scores import Score
from examples.claims.data import DATA
from examples.claims.finding import Finding, describe_change

N, DIM, LATENT = 1024, 256, 32
GALLERIES = (128, 256, 512, 1024, 2048)
MEANING_COLUMNS = (
    "variance in common",
    "mutual_knn",
    "chance",
    "above 95 % of chance from",
    "calibrated",
    "p",
    "debiased cka",
)


def gallery(client: Client) -> Finding:
    """Show how the score depends on the gallery size."""
    docs, code = (client.upload(DATA / f"stdlib2048_{side}.npy") for side in ("docs", "code"))
    document = client.align(docs, code, metrics={"metric": "mutual_knn", "k": [1, 10]}, gallery_sizes=GALLERIES).wait()
    curves = {score.options["k"]: score.gallery_curve or () for score in document.scores}
    rows: list[tuple[int, float, float, float, float]] = [
        (one.n, one.value, 1 / (one.n - 1), ten.value, 10 / (ten.n - 1))
        for one, ten in zip(curves[1], curves[10], strict=True)
    ]

    def draw(axes: Axes) -> None:
        for k, points in curves.items():
            sizes, values = [point.n for point in points], [point.value for point in points]
            (line,) = axes.plot(sizes, values, marker="o", label=f"mutual_knn, k = {k}")
            axes.plot(sizes, [k / (n - 1) for n in sizes], "--", color=line.get_color(), label=f"chance, k = {k}")
        axes.set(xscale="log", yscale="log", xlabel="items in the gallery", ylabel="score")
        axes.legend(frameon=False)

    first, last = rows[0], rows[-1]
    return Finding(
        name="gallery",
        title="Gallery size: does the score depend on how many items there are?",
        claim="An objection to the article: with more items to choose from, nearest neighbours agree less.",
        setup="2048 functions of Python's standard library, docstrings against code, all-MiniLM-L6-v2's last layer. The same "
        "query rows are searched in nested galleries of increasing size, in one pass.",
        columns=("items", "k = 1", "chance", "k = 10", "chance"),
        rows=rows,
        verdict=f"From {first[0]} to {last[0]} items {describe_change('k = 10', first[3], last[3])}, and "
        f"{describe_change('k = 1', first[1], last[1])}; the ratio of k = 10 to its chance goes "
        f"from {first[3] / first[4]:.1f} to {last[3] / last[4]:.1f}. Scores of different n must not be compared, nor must "
        "their chance.",
        draw=draw,
    )


def meaning(client: Client) -> Finding:
    """Show the meaning of a score of 0.16 at n = 1024 and k = 10."""
    shares = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    found = [(share, *_score(client, share)) for share in shares]
    ckas = np.array([cka.value for *_, cka in found], dtype=float)
    rows = [
        [share, knn.value, knn.null.mean, knn.null.threshold, knn.calibrated, knn.null.p_value, cka.value]
        for share, knn, cka in found
    ]
    values = np.array([knn.value for _, knn, _ in found], dtype=float)
    at = float(np.interp(0.16, values, shares))
    cka_at = float(np.interp(at, shares, ckas))

    def draw(axes: Axes) -> None:
        axes.plot(shares, values, marker="o", label="mutual_knn, k = 10")
        axes.plot(shares, ckas, marker="o", label="debiased cka")
        axes.axhline(0.16, color="grey", linestyle="--", label="0.16")
        axes.set(xlabel="share of the variance that both spaces have in common", ylabel="score")
        axes.legend(frameon=False)

    return Finding(
        name="meaning",
        title="What does a score of 0.16 mean?",
        claim="The article's highest alignment of a language and a vision model is 0.16 of at most 1: 'a remaining mystery'.",
        setup=f"Ten pairs of Gaussian spaces of {N} rows and {DIM} columns: {LATENT} common directions, each space turned on "
        "its own, and noise of its own for the rest of the variance.",
        columns=MEANING_COLUMNS,
        rows=rows,
        verdict=f"Chance is {rows[0][2]:.4f} and 95 % of pairs that have nothing in common stay below {rows[0][3]:.4f}, so "
        f"0.16 is far from chance. Here it is reached where {at:.0%} of the variance are in common, and debiased CKA says "
        f"{cka_at:.2f} of the same pair: neighbours are a strict judge, and 0.16 is no sixth of the way.",
        draw=draw,
    )


def mix(share: float, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Two spaces (n, d) that have this share of their variance in common."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((N, LATENT))
    sides = []
    for _ in range(2):
        turn = np.linalg.qr(rng.standard_normal((DIM, LATENT)))[0].T * np.sqrt(DIM / LATENT)
        noise = rng.standard_normal((N, DIM))
        sides.append((np.sqrt(share) * latent @ turn + np.sqrt(1 - share) * noise).astype(np.float32))
    return sides[0], sides[1]


def _score(client: Client, share: float) -> tuple[Score, Score]:
    document = client.align(*mix(share), metrics=["mutual_knn", "cka"]).wait()
    return document.scores[0], document.scores[1]
