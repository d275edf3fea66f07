"""What held-out rows say of a map, in the contract's words."""

import sys

import numpy as np

from consilience.contract.maps import ChanceLevel, Evaluation, MapOptions, MeanShare, Retrieval
from consilience.numerics.regression.evaluation import ConstantBaseline, MapEvaluation, Ranks
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats import intervals


def describe_evaluation(judged: MapEvaluation, sizes: Ranks, options: MapOptions) -> Evaluation:
    """One map's figures with their intervals."""
    return Evaluation(
        cosine=judged.cosine,
        r2=judged.r2,
        forward=_describe_ranks(judged.forward, sizes, options),
        backward=_describe_ranks(judged.backward, sizes, options),
    )


def _describe_ranks(ranks: Ranks, sizes: Ranks, options: MapOptions) -> Retrieval:
    return Retrieval(
        queries=len(ranks),
        gallery=int(sizes.max()),
        mean_rank=float(ranks.mean()),
        mrr=estimate_mean(1 / ranks, options.level),
        recall={k: estimate_mean((ranks <= k).astype(np.float64), options.level) for k in options.recall_at},
    )


def estimate_mean(shares: Float64Array, level: float) -> MeanShare:
    """The mean of shares of rows drawn from many, with Wilson's interval.

    For shares that are not yes or no, the number of answers is the one whose mean would have the same standard error.
    """
    if len(shares) == 1:  # one row says nothing of how rows differ
        return MeanShare(value=float(shares[0]), low=0.0, high=1.0)
    found = intervals.SampledMean(float(shares.mean()), float(shares.var(ddof=1)), len(shares), sys.maxsize)
    bounds = intervals.gallery_interval(found, level, (0.0, 1.0))
    return MeanShare(value=found.value, low=bounds.low, high=bounds.high)


def describe_chance(floor: ConstantBaseline, sizes: Ranks, options: MapOptions) -> ChanceLevel:
    """The figures of a constant row, and of ranks at random: each of s answers is as likely as any other."""
    harmonic = np.cumsum(1 / np.arange(1, int(sizes.max()) + 1))
    return ChanceLevel(
        cosine=floor.cosine,
        r2=floor.r2,
        mean_rank=float((sizes.mean() + 1) / 2),
        mrr=float((harmonic[sizes - 1] / sizes).mean()),
        recall={k: float((np.minimum(k, sizes) / sizes).mean()) for k in options.recall_at},
    )
