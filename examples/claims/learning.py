"""Networks of one kind compared with each other, level by level of one number: capacity, tasks and simplicity."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from consilience.client.sync import Client
from consilience.contract.study_results import StudyDocument, TrendResult
from examples.claims.finding import Cell, Finding, describe_change
from examples.claims.networks import NetworkOptions, train

SEEDS = range(4)
METRICS = ("mutual_knn", "cka")

CAPACITY = "capacity"
TASKS = "tasks"
SIMPLICITY = "simplicity"


def capacity(client: Client) -> Finding:
    """Test whether wider networks agree more."""
    found = study_levels(
        client, CAPACITY, (4, 8, 16, 32, 64, 128, 256), lambda width, seed: NetworkOptions(int(width), seed)
    )
    return Finding(
        name=CAPACITY,
        title="Capacity: do wider networks agree more?",
        claim="Bigger models are more likely to converge to a shared representation than smaller models.",
        setup=f"{_setup('widths from 4 to 256 neurons')} Every network learns which digit a picture shows.",
        columns=("width", "accuracy", *_columns()),
        rows=found.rows,
        verdict=found.verdict("width"),
        draw=found.draw("neurons of a hidden layer", logarithmic=True),
    )


def tasks(client: Client) -> Finding:
    """Test whether networks that learn more tasks agree more."""
    found = study_levels(
        client, TASKS, (1, 2, 4, 8, 16, 32), lambda count, seed: NetworkOptions(64, seed, tasks=int(count))
    )
    return Finding(
        name=TASKS,
        title="Tasks: do networks that must solve more of them agree more?",
        claim="There are fewer representations that are competent for N tasks than for M < N tasks.",
        setup=f"{_setup('64 neurons a layer')} A task asks whether the digit is one of five; every network has tasks of its "
        "own.",
        columns=("tasks", "accuracy", *_columns()),
        rows=found.rows,
        verdict=found.verdict("number of tasks"),
        draw=found.draw("tasks learned at once", logarithmic=True),
    )


def simplicity(client: Client) -> Finding:
    """Test whether a stronger preference for simple solutions makes networks agree more."""
    gains = (0.5, 1.0, 2.0, 4.0, 8.0)
    found = study_levels(client, SIMPLICITY, gains, lambda gain, seed: NetworkOptions(64, seed, gain=gain))
    return Finding(
        name=SIMPLICITY,
        title="Simplicity: do networks that start small agree more?",
        claim="Deep networks are biased toward finding simple fits to the data, and the bias makes them converge.",
        setup=f"{_setup('64 neurons a layer')} Small first weights make a network find its features; large ones let it keep "
        "those that it was born with, so that a lower number is a stronger pull towards simple fits.",
        columns=("first weights, relative", "accuracy", *_columns()),
        rows=found.rows,
        verdict=found.verdict("size of the first weights"),
        draw=found.draw("first weights, relative to the usual", logarithmic=True),
    )


class Levels:
    """A study of networks at several levels of one number."""

    def __init__(self, levels: Sequence[float], accuracies: Mapping[float, float], document: StudyDocument) -> None:
        self._levels, self._document = levels, document
        self._trends = {trend.metric: trend for trend in document.trends}
        self.rows: list[list[Cell]] = [
            [level, accuracies[level], *(mean for name in self._trends for mean in self._bin(name, place))]
            for place, level in enumerate(levels)
        ]

    def _bin(self, metric: str, place: int) -> tuple[float | None, float | None]:
        found = self._trends[metric].bins[place]
        return found.mean, found.se

    def verdict(self, what: str) -> str:
        """Describe the trends, metric by metric."""
        return " ".join(_judge(what, trend) for trend in self._trends.values())

    def draw(self, label: str, *, logarithmic: bool) -> Callable[[Axes], None]:
        """Compute the mean agreement within each level, with its standard error."""

        def draw(axes: Axes) -> None:
            for name in self._trends:
                means, errors = zip(*(self._bin(name, place) for place in range(len(self._levels))), strict=True)
                axes.errorbar(
                    self._levels,
                    np.array(means, float),
                    yerr=np.array(errors, float),
                    marker="o",
                    capsize=3,
                    label=name,
                )
            axes.set(xlabel=label, ylabel="agreement within a level", xscale="log" if logarithmic else "linear")
            axes.legend(frameon=False)

        return draw


def study_levels(
    client: Client, name: str, levels: Sequence[float], make: Callable[[float, int], NetworkOptions]
) -> Levels:
    """Train the networks of every level, and study their agreement with the service."""
    sets, numbers, accuracies = {}, {}, {}
    for level in levels:
        trained = [train(make(level, seed)) for seed in SEEDS]
        accuracies[level] = float(np.mean([each.accuracy for each in trained]))
        for seed, each in zip(SEEDS, trained, strict=True):
            label = f"{name} {level} seed {seed}"
            sets[label] = client.upload(each.rows, name=label)
            numbers[label] = {"level": level}
    edges = [*levels, 2 * levels[-1]]
    trend = {"by": "level", "bins": edges, "value": "calibrated"}
    pending = client.study(sets, metrics=METRICS, layers="last", metadata=numbers, trends=[trend])
    return Levels(levels, accuracies, pending.wait())


def _setup(what: str) -> str:
    return (
        f"Networks with two hidden layers ({what}), {len(SEEDS)} at each level, each with first weights and half of the "
        "1285 training pictures of its own; rows are the last hidden layer's answers to 512 other pictures of "
        "scikit-learn's digits. Agreement is the mean over pairs of one level, calibrated: 0 is chance."
    )


def _columns() -> tuple[str, ...]:
    return tuple(word for name in METRICS for word in (name, f"{name} +-"))


def _judge(what: str, trend: TrendResult) -> str:
    if trend.spearman is None:
        return f"{trend.metric}: undefined ({trend.reason.detail if trend.reason else 'no reason'})."
    means = [found.mean for found in trend.bins if found.mean is not None]  # none where a network's rows are all 0
    said = describe_change(f"{trend.metric} with the {what}", means[0], means[-1])
    spearman = trend.spearman
    return f"{said}; over all networks Spearman {spearman.value:+.2f} (p {spearman.p_value:.2g}, n {spearman.n})."
