"""Words of the contract and of the command line: each is in docs/glossary.md or ordinary English."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.core import TyperGroup
from typer.main import get_command

from consilience import contract
from consilience.cli.app import app
from consilience.contract.base import Document, Request

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"
#: Words that mean in a name what they mean in any other text, and units.
ORDINARY = frozenset(
    """
    add against agreement alternative api apply attempts available backward best bound budget by bytes cancel check code
    completion content cost create created data database days deep definition delete delivered detail device difference
    differences dir distances doctor documents done dry dtype duplicates ended error errors evaluation exact expires
    extract failed finished first fit fitted formats formula forward half has hint host image improvement independent
    inline install invariant is items json k key keys kind label last length libraries limit limits links list matched
    max mean means memory method min minute model more n name new next no options order out pairs peak per pixels points
    port progress rate raw reason reasons recommendation reports request requested result resumed retryable reused
    rotation s same scale scaling second seconds serve server share shared show size sizes source stage started status
    summary symmetric test text timeout timings title top total train triangle type unique upload url used value values
    variant vectors version versions wait warnings watch within worst x y
    """.split()  # noqa: SIM905 - a list of a hundred strings would take a hundred lines
)


def glossary_words() -> set[str]:
    """The words of bold terms and of names in code."""
    terms = re.findall(r"\*\*(.+?)\*\*|`(.+?)`", GLOSSARY.read_text())
    return {word.lower() for term in terms for name in term for word in re.split(r"[^A-Za-z0-9]+", name)}


def is_known(word: str, known: set[str]) -> bool:
    """Whether the word, its singular or its plural is known."""
    forms = {word, word.removesuffix("s"), word.removesuffix("es"), f"{word}s", re.sub("ies$", "y", word)}
    return bool(forms & known) or word == "matrices"


def models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from models(model)


def field_names() -> set[str]:
    for module in pkgutil.iter_modules(contract.__path__):
        importlib.import_module(f"{contract.__name__}.{module.name}")
    every = {*models(Request), *models(Document)}
    return {
        field.alias or name
        for model in every
        if model.__module__.startswith(contract.__name__)
        for name, field in model.model_fields.items()
    }


def option_names() -> set[str]:
    names: set[str] = set()
    commands = [get_command(app)]
    while commands:
        command = commands.pop()
        options = [option for each in command.params for option in (*each.opts, *each.secondary_opts)]
        names |= {option.lstrip("-") for option in options if option.startswith("-")}
        if isinstance(command, TyperGroup):
            names |= command.commands.keys()
            commands += command.commands.values()
    return names


@pytest.mark.parametrize("names", [field_names(), option_names()], ids=["fields", "options"])
def test_every_word_of_a_name_is_in_the_glossary_or_ordinary(names: set[str]) -> None:
    known = glossary_words() | ORDINARY
    unknown = {name: word for name in names for word in re.split(r"[-_]", name.lower()) if not is_known(word, known)}
    assert unknown == {}


def test_no_word_is_both_ordinary_and_unused() -> None:
    used = {word for name in field_names() | option_names() for word in re.split(r"[-_]", name.lower())}
    assert {word for word in ORDINARY if not is_known(word, used)} == set()
