"""The metrics: one frozen model each, whose class facts are the catalogue.

A metric is added here as one class, in `numerics` as one pure function, and in `measures` as one line.
`GET /v1/metrics`, the command line and the docs read this file; there is no second list.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Field

from consilience.contract.base import Document, Request, as_many

Direction = Literal["similarity", "distance"]
NullMethod = Literal["analytic", "bonferroni", "permutation", "none"]
#: Neighbours per row; the upper bound is that of the graphs kept.
K = Annotated[int, Field(strict=True, ge=1, le=10_000)]
KSweep = Annotated[
    tuple[K, ...],
    BeforeValidator(as_many, json_schema_input_type=K | tuple[K, ...]),
    Field(min_length=1, max_length=64),
]


class Metric(Request):
    """What every metric declares about itself."""

    title: ClassVar[str]
    #: One sentence: what the number says.
    summary: ClassVar[str]
    formula: ClassVar[str]
    direction: ClassVar[Direction] = "similarity"
    symmetric: ClassVar[bool]
    #: The least and the largest value; None where there is no bound.
    low: ClassVar[float | None]
    high: ClassVar[float | None]
    #: The value expected when the pairing is random, in words.
    chance: ClassVar[str]
    #: How its chance level can be had, the default first.
    nulls: ClassVar[tuple[NullMethod, ...]]
    #: Whether joint rotation or scaling of one side leaves the value.
    rotation_invariant: ClassVar[bool]
    scale_invariant: ClassVar[bool]
    cost: ClassVar[str]
    reference: ClassVar[str]

    metric: str

    def each(self) -> Iterator[Self]:
        """One metric for each value of a swept option (`k`), in the order given."""
        yield self

    def options(self) -> dict[str, Any]:
        """The options in force, without the name."""
        return self.model_dump(exclude={"metric"})


class MutualKnn(Metric):
    """Mean overlap of the k nearest neighbours of each item in both spaces."""

    title = "Mutual k-nearest neighbours"
    summary = "The mean share of an item's k nearest neighbours that are the same in both spaces."
    formula = "(1/nk) sum_i |N_A(i) & N_B(i)|"
    symmetric = True
    low = 0.0
    high = 1.0
    chance = "k / (n - 1)"
    nulls = ("analytic", "permutation")
    rotation_invariant = True
    scale_invariant = True
    cost = "one exact search a layer, O(n^2 d); then O(n k) a pair of layers"
    reference = "Huh et al. 2024, The Platonic Representation Hypothesis, arXiv 2405.07987, appendix A, eq. 12"

    metric: Literal["mutual_knn"] = "mutual_knn"
    k: KSweep = Field(
        default=(10,), description="neighbours per row: one number, or a list that gives one score entry each"
    )

    def each(self) -> Iterator[Self]:
        """One metric for each k."""
        for k in self.k:
            yield self.model_copy(update={"k": (k,)})

    def options(self) -> dict[str, Any]:
        """A single k as a number."""
        return {"k": self.k[0] if len(self.k) == 1 else list(self.k)}


class Cka(Metric):
    """Centred kernel alignment of the two spaces' linear kernels."""

    title = "Centred kernel alignment"
    summary = "The cosine between the two spaces' centred similarity matrices; debiased by default."
    formula = "HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)); debiased: with the unbiased HSIC"
    symmetric = True
    low = -1.0
    high = 1.0
    chance = "0 (debiased); sqrt(b_x b_y) / (n - 1) with b = tr(S)^2 / tr(S^2) (biased)"
    nulls = ("analytic", "permutation")
    rotation_invariant = True
    scale_invariant = True
    cost = "O(n p q) a pair of layers, O(p q) memory"
    reference = (
        "Kornblith et al. 2019, arXiv 1905.00414, eq. 4; debiased HSIC: Song et al. 2012, JMLR 13:1393-1434, eq. 5"
    )

    metric: Literal["cka"] = "cka"
    kernel: Literal["linear"] = "linear"
    debiased: bool = Field(default=True, description="the unbiased HSIC of Song et al., whose value at chance is 0")
    definition: Literal["standard", "prh"] = Field(
        default="standard", description="prh adds the reference implementation's 1e-6 to the denominator"
    )


AnyMetric = MutualKnn | Cka

#: Every metric class by its name, in the order of the catalogue.
METRICS: dict[str, type[Metric]] = {cls.model_fields["metric"].default: cls for cls in get_args(AnyMetric)}


def _named(value: object) -> object:
    """A bare name stands for the metric with its defaults."""
    return {"metric": value} if isinstance(value, str) else value


#: A metric as a user writes it: its name, or an object with its options.
MetricChoice = Annotated[
    Annotated[AnyMetric, Field(discriminator="metric")],
    BeforeValidator(_named, json_schema_input_type=Literal["mutual_knn", "cka"] | AnyMetric),
]


class MetricCard(Document):
    """A metric as `GET /v1/metrics` shows it."""

    name: str
    title: str
    summary: str
    formula: str
    direction: Direction
    symmetric: bool
    low: float | None
    high: float | None
    chance: str
    nulls: tuple[NullMethod, ...]
    rotation_invariant: bool
    scale_invariant: bool
    cost: str
    reference: str
    options: dict[str, Any]
    """JSON schema of each option, by name."""


class Catalogue(Document):
    """All metrics."""

    data: tuple[MetricCard, ...]


def describe(metric: type[Metric]) -> MetricCard:
    """The catalogue's card of one metric, from its class alone."""
    schema = metric.model_json_schema()["properties"]
    facts = {name: getattr(metric, name) for name in MetricCard.model_fields if name not in ("name", "options")}
    options = {name: value for name, value in schema.items() if name != "metric"}
    return MetricCard(name=metric.model_fields["metric"].default, options=options, **facts)


def catalogue() -> Catalogue:
    """Every metric, in order."""
    return Catalogue(data=tuple(describe(metric) for metric in METRICS.values()))
