"""An upgrade report with a value in every field and a hostile name."""

from consilience.contract.maps import MapSide, MeanShare, RidgeMap
from consilience.contract.scores import Pairing
from consilience.contract.upgrades import (
    ChangedItem,
    Neighbour,
    NeighbourAgreement,
    QuerySummary,
    Strategy,
    Thresholds,
    UpgradeReport,
    ValueWithInterval,
    Verdict,
)

HOSTILE_NAME = '<script>alert("x")</script> | `rm`\n# [a](javascript:b) & \x1b[31m'


def side(name: str) -> MapSide:
    return MapSide(id=None, name=name, layer="6", dim=384, digest="0" * 64)


def example_report(item: str = HOSTILE_NAME) -> UpgradeReport:
    some, span = MeanShare(value=0.5, low=0.4, high=0.6), ValueWithInterval(value=0.6, low=0.5, high=0.7)
    neighbours = (Neighbour(item=item, row=1, similarity=0.5), Neighbour(item="b", row=2, similarity=0.4))
    changed = (ChangedItem(item=item, row=0, shared=1, old=neighbours, new=neighbours),)
    return UpgradeReport(
        old=side(item),
        new=side("new"),
        n=1000,
        n_train=800,
        pairing=Pairing(matched=1000),
        k=10,
        agreement=NeighbourAgreement(shared=some, queries=500, chance=0.01),
        queries=QuerySummary(source="queries", used=200, available=300),
        strategies=(
            Strategy(
                name="re_embed",
                kind="re_embed",
                recall=MeanShare(value=1, low=1, high=1),
                relevant_recall=some,
                retained=span,
            ),
            Strategy(
                name="adapt:ridge",
                kind="adapt",
                map=RidgeMap(),
                recall=some,
                relevant_recall=some,
                retained=span,
                gain=span,
            ),
        ),
        improvement=span,
        worst_documents=changed,
        worst_queries=changed,
        verdict=Verdict(
            recommendation="adapt",
            strategy="adapt:ridge",
            best="adapt:ridge",
            ground_truth="relevance_judgments",
            retained=span,
            threshold=0.9,
            conclusive=True,
            text="Keep the index.",
        ),
        thresholds=Thresholds(),
        level=0.95,
        seed=0,
        warnings=(item,),
        versions={},
        timings_s={},
    )
