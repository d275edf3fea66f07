"""A report that says something in every place, with names that attack."""

from consilience.contract.maps import MapSide, MeanShare, Ridge
from consilience.contract.scores import Pairing
from consilience.contract.upgrades import (
    Changed,
    Neighbour,
    NeighbourAgreement,
    Queries,
    Span,
    Thresholds,
    UpgradeReport,
    Verdict,
    Way,
)

EVIL = '<script>alert("x")</script> | `rm`\n# [a](javascript:b) & \x1b[31m'


def side(name: str) -> MapSide:
    return MapSide(id=None, name=name, layer="6", dim=384, digest="0" * 64)


def report(item: str = EVIL) -> UpgradeReport:
    some, span = MeanShare(value=0.5, low=0.4, high=0.6), Span(value=0.6, low=0.5, high=0.7)
    neighbours = (Neighbour(item=item, row=1, similarity=0.5), Neighbour(item="b", row=2, similarity=0.4))
    changed = (Changed(item=item, row=0, shared=1, old=neighbours, new=neighbours),)
    return UpgradeReport(
        old=side(item),
        new=side("new"),
        n=1000,
        n_train=800,
        pairing=Pairing(matched=1000),
        k=10,
        agreement=NeighbourAgreement(shared=some, asked=500, chance=0.01),
        queries=Queries(source="queries", asked=200, available=300),
        ways=(
            Way(name="re_embed", kind="re_embed", recall=MeanShare(value=1, low=1, high=1), judged=some, retained=span),
            Way(name="adapt:ridge", kind="adapt", map=Ridge(), recall=some, judged=some, retained=span, gain=span),
        ),
        improvement=span,
        worst_documents=changed,
        worst_queries=changed,
        verdict=Verdict(
            word="adapt",
            way="adapt:ridge",
            best="adapt:ridge",
            truth="judgements",
            retained=span,
            threshold=0.9,
            clear=True,
            text="Keep the index.",
        ),
        thresholds=Thresholds(),
        level=0.95,
        seed=0,
        warnings=(item,),
        versions={},
        timings_s={},
    )
