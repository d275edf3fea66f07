"""Options that several commands have: each reads the same in all of them."""

from collections.abc import Iterator
from typing import Any

import typer

from consilience.cli.app import app
from consilience.cli.options import Measures, Search, read_options
from consilience.cli.parsing import parse_metric
from consilience.contract.alignments import ScoringOptions

#: Words that mean something of its own in a command.
OWN = {
    "study": {"--out"},
    "upgrade": {"--k", "--layers", "--out", "--min", "--test-share"},
    "extract": {"--layers", "--out", "--name"},
    "map fit": {"b", "--out"},
    "map apply": {"--out"},
    "metrics": {"name"},
    "upload": {"--name", "--json"},
    "datasets add": {"--name"},
    "keys list": {"--json"},
}
#: What these do is done by a service alone: there is always one.
SERVED = ("upload", "jobs ", "datasets ", "reference ")


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its words."""
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{word} ")
        else:
            yield before + word, command


def said(parameter: Any) -> tuple[object, ...]:
    """What the help tells of an option or argument, and what is done without it."""
    kind = parameter.display_type(typer.Context(typer.main.get_command(app)))
    return (
        parameter.opts,
        parameter.help,
        parameter.metavar,
        kind,
        parameter.default,
        parameter.required,
        parameter.envvar,
    )


def test_an_option_reads_the_same_in_every_command() -> None:
    seen: dict[object, tuple[str, object]] = {}
    for name, command in commands(typer.main.get_command(app)):
        for parameter in command.params:
            word = parameter.opts[-1]
            if word not in OWN.get(name, ()):
                key = (word, word == "--server" and name.startswith(SERVED))
                first, expected = seen.setdefault(key, (name, said(parameter)))
                assert said(parameter) == expected, f"{word} of {name} and of {first}"


def test_without_words_the_options_are_the_contracts() -> None:
    given = read_options(Measures(), Search())
    assert given.model_dump() == ScoringOptions().model_dump()


def test_where_no_metric_is_named_the_given_ones_are_measured() -> None:
    unnamed = [parse_metric("cka:debiased=false")]
    assert [each.metric for each in read_options(Measures(), Search(), unnamed=unnamed).metrics] == ["cka"]
    named = read_options(Measures(metric=["mutual_knn"], k=[3, 5]), Search(), unnamed=unnamed)
    assert [each.model_dump() for each in named.metrics] == [{"metric": "mutual_knn", "k": (3, 5)}]
