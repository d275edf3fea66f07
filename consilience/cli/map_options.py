"""The options that only `consilience map fit` has, and what they mean in the contract."""

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from consilience.cli.metric_words import parse_map
from consilience.cli.options import Pairing, Seed
from consilience.client.options import options_of
from consilience.contract.maps import MapOptions, MapPreparation

Kind = Annotated[
    str,
    Option(metavar="NAME[:OPTION=VALUE,...]", help="procrustes, ridge, low_rank:rank=64, relative:anchors=256 or mlp."),
]
Layer = Annotated[str, Option(help="The layer that is mapped: last, or its name.")]
Model = Annotated[str | None, Option(metavar="NAME", help="Whose vectors they are; kept in the card.")]


@dataclass(frozen=True)
class Fitting:
    """Which map, from what, and how it is judged."""

    kind: Kind = "ridge"
    layer_a: Layer = "last"
    layer_b: Layer = "last"
    preparation: Annotated[MapPreparation, Option(help="l2: rows are scaled to length 1 first.")] = "l2"
    pairing: Pairing = "row"
    test_share: Annotated[float, Option(help="Share of the rows that the map never sees and is judged by.")] = 0.2
    queries: Annotated[int, Option(min=1, help="Held-out rows that look for their own, at most.")] = 4096
    seed: Seed = 0

    def read(self) -> MapOptions:
        """The contract's options; InvalidRequest says which word cannot be used."""
        fields = {
            "map": parse_map(self.kind),
            "layers": {"a": self.layer_a, "b": self.layer_b},
            "preparation": self.preparation,
            "pairing": self.pairing,
            "test_share": self.test_share,
            "queries": self.queries,
            "seed": self.seed,
        }
        return options_of(MapOptions, None, fields)


@dataclass(frozen=True)
class Models:
    """What a file does not say of its rows."""

    model_a: Model = None
    model_b: Model = None

    @property
    def names(self) -> tuple[str | None, str | None]:
        """Of a and of b."""
        return self.model_a, self.model_b
