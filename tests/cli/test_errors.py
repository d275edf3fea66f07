"""Error messages and exit statuses of the command line."""

import importlib
from pathlib import Path

import pytest
import typer

from consilience.cli.app import app
from consilience.cli.errors import OPTION_NAMES, SAME_NAME_FIELDS, describe_error, name_option, require_extra
from consilience.errors import InvalidRequest, MissingExtra
from tests.cli.conftest import Command, list_commands


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("/null/permutations: Too few.", "--permutations: Too few."),
        ("/seed: Input should be 0 or more.", "--seed must be 0 or more."),
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
def test_a_json_pointer_is_replaced_by_its_option(message: str, expected: str) -> None:
    assert name_option(message) == expected


def test_every_option_of_an_error_message_exists() -> None:
    parameters = [each for _, command in list_commands(typer.main.get_command(app)) for each in command.params]
    words = {word for each in parameters for word in (*each.opts, each.metavar)}
    assert set(OPTION_NAMES.values()) <= words
    assert {f"--{name.replace('_', '-')}" for name in SAME_NAME_FIELDS} <= words


@pytest.mark.parametrize(
    ("detail", "value", "message"),
    [
        ("It should be 20 or more.", 0, "It should be 20 or more. Got '0'."),
        ("k = 100 is too large.", 100, "k = 100 is too large."),
        ("There is no metric 'x'.", "x", "There is no metric 'x'."),
        ("A number is needed.", "", "A number is needed. Got ''."),
        ("a has 2 rows and b has 3.", "2 rows, 3", "a has 2 rows and b has 3."),
        ("'' is no address.", "", "'' is no address."),
    ],
)
def test_a_message_contains_the_value_once(detail: str, value: object, message: str) -> None:
    assert describe_error(InvalidRequest(detail, value=value)) == [message]


def test_a_note_with_the_pointer_of_the_error_becomes_part_of_the_message() -> None:
    error = InvalidRequest("Too short.", value="", hint="Write more.")
    for note in ("name: Too short.", "/permutations: Too few."):
        error.add_note(note)
    assert describe_error(error) == ["name: Too short. Write more. Got ''.", "--permutations: Too few."]


@pytest.mark.parametrize("words", [("--k", "many"), ("--k", "-3"), ("--profile", "l3"), ("--timeout", "-7")])
def test_a_rejected_value_is_quoted(consilience: Command, pair: tuple[Path, Path], words: tuple[str, str]) -> None:
    ran = consilience("score", *pair, *words)
    assert (ran.status, f"'{words[1]}'" in ran.err, words[0] in ran.err) == (2, True, True)


def test_a_missing_package_is_reported_with_the_extra_to_install() -> None:
    with pytest.raises(MissingExtra) as error, require_extra("compute", "Scoring in this process"):
        importlib.import_module("no_such_package")
    assert str(error.value).startswith("Scoring in this process needs the package no_such_package.")
    assert "pip install 'consilience[compute]', or use a service with --server." in str(error.value)


def test_a_service_is_suggested_only_if_it_can_do_the_work() -> None:
    with pytest.raises(MissingExtra) as error, require_extra("service", "The database", has_service=False):
        importlib.import_module("no_such_package")
    assert "pip install 'consilience[service]'." in str(error.value)
