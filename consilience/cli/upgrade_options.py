"""What `consilience upgrade` was given, in the contract's words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from consilience.cli.columns import Files, Labels, read_optional
from consilience.cli.judgements import Judgements
from consilience.client.options import upgrade_options_of
from consilience.contract.upgrades import UpgradeOptions
from consilience.errors import InvalidRequest

Pair = tuple[str, str]


@dataclass(frozen=True)
class Inputs:
    """Files or ids, and what is said of their rows.

    Attributes
    ----------
    documents, queries : by the old and by the new model
    """

    documents: Pair
    queries: Pair | None
    judgements: Judgements | None
    ids: tuple[Labels, Labels] = (None, None)
    groups: Labels = None
    query_ids: tuple[Labels, Labels] = (None, None)

    @classmethod
    def read(cls, documents: Pair, queries: tuple[str | None, str | None], judgements: Judgements | None) -> Self:
        """Both sides of the queries, or neither."""
        old, new = queries
        if (old is None) != (new is None):
            raise InvalidRequest(
                "Queries are needed by both models.", hint="Give --queries-old and --queries-new, or neither."
            )
        return cls(documents, None if old is None or new is None else (old, new), judgements)

    def with_columns(self, *, ids: Files, groups: Path | None, query_ids: Files) -> Self:
        """With the columns of these files."""
        return replace(
            self,
            ids=(read_optional(ids[0], "ids_old"), read_optional(ids[1], "ids_new")),
            groups=read_optional(groups, "groups"),
            query_ids=(read_optional(query_ids[0], "query_ids_old"), read_optional(query_ids[1], "query_ids_new")),
        )


def read_upgrade_options(
    fields: Mapping[str, Any], maps: Sequence[Mapping[str, Any]] | None, layers: Sequence[str]
) -> UpgradeOptions:
    """The contract's options; InvalidRequest says which word cannot be used."""
    body = {**fields, "layers": _parse_layers(layers)}
    if maps is not None:
        body["maps"] = list(maps)
    return upgrade_options_of(None, body)


def _parse_layers(words: Sequence[str]) -> dict[str, str]:
    """A name for both models, or for one after `old=` or `new=`; what comes later wins."""
    chosen = {"old": "last", "new": "last"}
    for word in words:
        model, equals, name = word.partition("=")
        chosen |= {model: name} if equals and model in chosen else dict.fromkeys(chosen, word)
    return chosen
