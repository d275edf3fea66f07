"""Errors in the words of the command line."""

from pathlib import Path

import pytest
import typer

from consilience.cli.app import app
from consilience.cli.errors import OPTION_NAMES, SAME_NAME_FIELDS, describe_error, name_option
from consilience.errors import InvalidRequest
from tests.cli.conftest import Command
from tests.cli.test_groups import commands


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ("/null/permutations: Too few.", "--permutations: Too few."),
        ("/null/method: No.", "--null: No."),
        ("/metrics/0/k: Too large.", "--metric (k): Too large."),
        ("/preparation: No.", "--profile: No."),
        ("/memory_budget_bytes: Too small.", "--memory-budget: Too small."),
        ("/test_share: Too large.", "--test-share: Too large."),
        ("/thresholds/keep: Too large.", "--keep: Too large."),
        ("/b/embedding: No.", "/b/embedding: No."),
        ("/data/a.npy: The file is empty.", "/data/a.npy: The file is empty."),
        ("a has 3 rows: too few.", "a has 3 rows: too few."),
    ],
)
def test_an_option_is_named_as_it_is_written(told: str, named: str) -> None:
    assert name_option(told) == named


def test_every_option_that_is_named_is_one() -> None:
    parameters = [each for _, command in commands(typer.main.get_command(app)) for each in command.params]
    words = {word for each in parameters for word in (*each.opts, each.metavar)}
    assert set(OPTION_NAMES.values()) <= words
    assert {f"--{name.replace('_', '-')}" for name in SAME_NAME_FIELDS} <= words


@pytest.mark.parametrize(
    ("detail", "value", "told"),
    [
        ("It should be 20 or more.", 0, "It should be 20 or more. (It is '0'.)"),
        ("k = 100 is too large.", 100, "k = 100 is too large."),
        ("There is no metric 'x'.", "x", "There is no metric 'x'."),
        ("A number is needed.", "", "A number is needed. (It is ''.)"),
        ("'' is no address.", "", "'' is no address."),
    ],
)
def test_the_value_is_told_once(detail: str, value: object, told: str) -> None:
    assert describe_error(InvalidRequest(detail, value=value)) == [told]


def test_a_note_that_says_where_the_fault_is_is_part_of_it() -> None:
    error = InvalidRequest("Too short.", value="", hint="Write more.")
    for note in ("name: Too short.", "/draws: Too few."):
        error.add_note(note)
    assert describe_error(error) == ["name: Too short. Write more. (It is ''.)", "--permutations: Too few."]


@pytest.mark.parametrize("words", [("--k", "many"), ("--k", "-3"), ("--profile", "l3"), ("--timeout", "-7")])
def test_a_refused_value_is_quoted(consilience: Command, pair: tuple[Path, Path], words: tuple[str, str]) -> None:
    ran = consilience("score", *pair, *words)
    assert (ran.status, f"'{words[1]}'" in ran.err, words[0] in ran.err) == (2, True, True)
