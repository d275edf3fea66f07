"""A map's card as a table that fits a terminal of 80 columns."""

from rich.console import Group, RenderableType
from rich.text import Text

from consilience.cli.numbers import figure
from consilience.cli.tables import new_table
from consilience.contract.maps import MapDocument, MeanShare


def map_table(card: MapDocument) -> RenderableType:
    """What a map does on rows that it has not seen, beside the best linear map and chance."""
    own, linear, chance = card.evaluation, card.best_linear.evaluation, card.chance
    table = new_table(
        "held out", "map", "interval", f"best linear ({card.best_linear.kind})", "chance", left=("held out",)
    )
    table.add_row("cosine", _bold(own.cosine), "", figure(linear.cosine), figure(chance.cosine))
    table.add_row("r2", _bold(own.r2), "", figure(linear.r2), figure(chance.r2))
    for name, arrow in (("forward", "a to b"), ("backward", "b to a")):
        ours, theirs = getattr(own, name), getattr(linear, name)
        table.add_row(
            f"mean rank, {arrow}", *_rank(ours.mean_rank), f"{theirs.mean_rank:.1f}", f"{chance.mean_rank:.1f}"
        )
        table.add_row(f"mrr, {arrow}", *_estimate(ours.mrr), figure(theirs.mrr.value), figure(chance.mrr))
        for k, share in ours.recall.items():
            bar = figure(theirs.recall[k].value), figure(chance.recall[k])
            table.add_row(f"recall@{k}, {arrow}", *_estimate(share), *bar)
    return Group(Text(_heading(card), "bold"), Text(_fit(card)), table)


def _heading(card: MapDocument) -> str:
    return f"{card.map.kind} map, {_side(card, 'a')} to {_side(card, 'b')}"


def _side(card: MapDocument, name: str) -> str:
    side = getattr(card, name)
    return f"{side.model or side.name} ({side.dim})"


def _fit(card: MapDocument) -> str:
    found = ", ".join(f"{name} {value:g}" for name, value in card.fitted.model_dump(exclude_none=True).items())
    asked = card.evaluation.forward
    rows = f"{card.n_train} training rows, {card.n_test} held out, {asked.queries} of them asked"
    return f"{rows}; {found}" if found else rows


def _bold(value: float | None) -> Text:
    return Text(figure(value), "bold")


def _rank(value: float) -> tuple[Text, str]:
    return Text(f"{value:.1f}", "bold"), ""


def _estimate(share: MeanShare) -> tuple[Text, str]:
    return _bold(share.value), f"[{share.low:.3f}, {share.high:.3f}]"
