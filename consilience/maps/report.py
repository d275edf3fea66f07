"""Evaluation of a map on held-out rows, as documents of the contract."""

import sys

import numpy as np

from consilience.contract.maps import ChanceLevel, Evaluation, MapOptions, MeanShare, Retrieval
from consilience.numerics.regression.evaluation import ConstantBaseline, MapEvaluation, Ranks
from consilience.numerics.rows.arrays import Float64Array
from consilience.numerics.stats import intervals


def describe_evaluation(found: MapEvaluation, candidates: Ranks, options: MapOptions) -> Evaluation:
    """Describe the evaluation of one map, with confidence intervals.

    `candidates` is the number of rows that each query is searched among.
    """
    return Evaluation(
        cosine=found.cosine,
        r2=found.r2,
        forward=_describe_ranks(found.forward, candidates, options),
        backward=_describe_ranks(found.backward, candidates, options),
    )


def _describe_ranks(ranks: Ranks, candidates: Ranks, options: MapOptions) -> Retrieval:
    return Retrieval(
        queries=len(ranks),
        gallery=int(candidates.max()),
        mean_rank=float(ranks.mean()),
        mrr=estimate_mean(1 / ranks, options.level),
        recall={k: estimate_mean((ranks <= k).astype(np.float64), options.level) for k in options.recall_at},
    )


def estimate_mean(shares: Float64Array, level: float) -> MeanShare:
    """Estimate the mean share of a population from a sample of rows, with Wilson's interval.

    For shares other than 0 and 1, the interval uses the number of yes-or-no values that would have the same standard error.
    """
    if len(shares) == 1:  # one row does not show how much rows differ
        return MeanShare(value=float(shares[0]), low=0.0, high=1.0)
    found = intervals.SampledMean(float(shares.mean()), float(shares.var(ddof=1)), len(shares), sys.maxsize)
    bounds = intervals.gallery_interval(found, level, (0.0, 1.0))
    return MeanShare(value=found.value, low=bounds.low, high=bounds.high)


def describe_chance(baseline: ConstantBaseline, candidates: Ranks, options: MapOptions) -> ChanceLevel:
    """Describe the level of chance: a constant prediction, and a random rank among each query's candidates."""
    harmonic = np.cumsum(1 / np.arange(1, int(candidates.max()) + 1))
    return ChanceLevel(
        cosine=baseline.cosine,
        r2=baseline.r2,
        mean_rank=float((candidates.mean() + 1) / 2),
        mrr=float((harmonic[candidates - 1] / candidates).mean()),
        recall={k: float((np.minimum(k, candidates) / candidates).mean()) for k in options.recall_at},
    )
