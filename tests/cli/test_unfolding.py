"""Dataclasses of options, unfolded into commands."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from consilience.cli.options import unfold

Count = Annotated[int, typer.Option(help="How many.", min=1)]


@dataclass(frozen=True)
class Colours:
    count: Count = 3
    bright: Annotated[bool, typer.Option("--bright")] = False


@dataclass(frozen=True)
class Shapes:
    count: Count = 4


def paint(name: str, *, before: int = 1, colours: Colours, after: int = 2) -> None:
    """Paint something."""
    typer.echo(f"{name} {before} {colours} {after}")


def run(*words: str) -> str:
    app = typer.Typer()
    app.command()(unfold(paint))
    ran = CliRunner().invoke(app, words, env={"COLUMNS": "100", "NO_COLOR": "1"})
    return ran.output if ran.exit_code == 0 else f"{ran.exit_code}: {ran.output}"


def test_each_field_is_an_option_and_the_command_is_given_the_dataclass() -> None:
    assert run("wall", "--count", "5", "--bright") == "wall 1 Colours(count=5, bright=True) 2\n"


def test_a_field_that_is_not_given_has_its_default() -> None:
    assert run("wall", "--after", "7") == "wall 1 Colours(count=3, bright=False) 7\n"


def test_the_help_has_the_fields_where_the_dataclass_stands() -> None:
    told = run("--help")
    places = [
        told.index(word) for word in ("Paint something.", "--before", "--count", "How many.", "--bright", "--after")
    ]
    assert places == sorted(places)


def test_a_value_out_of_a_fields_range_is_bad_usage() -> None:
    assert run("wall", "--count", "0").startswith("2: ")


def test_two_options_of_one_name_are_refused() -> None:
    def command(colours: Colours, shapes: Shapes) -> None:
        raise AssertionError((colours, shapes))

    with pytest.raises(ValueError, match="count"):
        unfold(command)
