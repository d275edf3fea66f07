"""Shared options, option groups and output files."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from consilience.cli.app import app
from consilience.cli.options import (
    MetricOptions,
    SearchOptions,
    check_writable,
    read_scoring_options,
    with_option_groups,
)
from consilience.cli.parsing import parse_metric
from consilience.contract.alignments import ScoringOptions
from consilience.errors import InputError
from tests.cli.conftest import list_commands

#: Options that have a help text of their own in a command.
OWN_OPTIONS = {
    "study": {"--out"},
    "upgrade": {"--k", "--layers", "--out", "--min", "--test-share", "--max-queries"},
    "extract": {"--layers", "--out", "--name"},
    "map fit": {"b", "--out"},
    "map apply": {"--out"},
    "metrics": {"name"},
    "upload": {"--name", "--json"},
    "datasets add": {"--name"},
    "keys list": {"--json"},
}
#: Commands that always need a service.
SERVICE_ONLY = ("upload", "jobs ", "datasets ", "reference ")


def help_of(parameter: Any) -> tuple[object, ...]:
    """Return everything that the help shows of an option or argument, and its default."""
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


def test_an_option_has_the_same_help_in_every_command() -> None:
    seen: dict[object, tuple[str, object]] = {}
    for name, command in list_commands(typer.main.get_command(app)):
        for parameter in command.params:
            word = parameter.opts[-1]
            if word not in OWN_OPTIONS.get(name, ()):
                key = (word, word == "--server" and name.startswith(SERVICE_ONLY))
                first, expected = seen.setdefault(key, (name, help_of(parameter)))
                assert help_of(parameter) == expected, f"{word} of {name} and of {first}"


def test_the_default_options_are_those_of_the_contract() -> None:
    options = read_scoring_options(MetricOptions(), SearchOptions())
    assert options.model_dump() == ScoringOptions().model_dump()


def test_default_metrics_are_used_only_if_no_metric_is_named() -> None:
    defaults = [parse_metric("cka:debiased=false")]
    assert [
        each.metric for each in read_scoring_options(MetricOptions(), SearchOptions(), default_metrics=defaults).metrics
    ] == ["cka"]
    named = read_scoring_options(
        MetricOptions(metric=["mutual_knn"], k=[3, 5]), SearchOptions(), default_metrics=defaults
    )
    assert [each.model_dump() for each in named.metrics] == [{"metric": "mutual_knn", "k": (3, 5)}]


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
    app.command()(with_option_groups(paint))
    ran = CliRunner().invoke(app, words, env={"COLUMNS": "100", "NO_COLOR": "1"})
    return ran.output if ran.exit_code == 0 else f"{ran.exit_code}: {ran.output}"


def test_a_command_receives_the_dataclass_of_an_option_group() -> None:
    assert run("wall", "--count", "5", "--bright") == "wall 1 Colours(count=5, bright=True) 2\n"


def test_an_option_of_a_group_has_the_default_of_its_field() -> None:
    assert run("wall", "--after", "7") == "wall 1 Colours(count=3, bright=False) 7\n"


def test_the_help_lists_the_options_of_a_group_at_its_position() -> None:
    text = run("--help")
    positions = [
        text.index(word) for word in ("Paint something.", "--before", "--count", "How many.", "--bright", "--after")
    ]
    assert positions == sorted(positions)


def test_a_value_outside_the_range_of_a_field_is_bad_usage() -> None:
    assert run("wall", "--count", "0").startswith("2: ")


def test_two_options_of_one_name_are_rejected() -> None:
    def command(colours: Colours, shapes: Shapes) -> None:
        raise AssertionError((colours, shapes))

    with pytest.raises(ValueError, match="count"):
        with_option_groups(command)


def test_checking_a_new_file_in_new_folders_creates_nothing(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / "scores.json"
    assert check_writable(out) == out
    assert list(tmp_path.iterdir()) == []
    assert check_writable(None) is None


def test_a_path_below_a_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file is not a folder\. Name another file\."):
        check_writable(tmp_path / "file" / "scores.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write read-only files")
def test_a_read_only_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "scores.json").touch(0o400)
    with pytest.raises(InputError, match="read-only"):
        check_writable(tmp_path / "scores.json")


def test_an_existing_file_may_be_overwritten(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("{}")
    check_writable(tmp_path / "scores.json")
    assert (tmp_path / "scores.json").read_text() == "{}"
