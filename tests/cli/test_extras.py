"""What an installation lacks is told with how to get it."""

import importlib

import pytest

from consilience.cli.errors import packages_of
from consilience.errors import MissingExtra


def test_a_missing_package_is_told_with_the_extra_that_brings_it() -> None:
    with pytest.raises(MissingExtra) as told, packages_of("compute", "Scoring in this process"):
        importlib.import_module("no_such_package")
    assert str(told.value).startswith("Scoring in this process needs no_such_package.")
    assert "pip install 'consilience[compute]', or let a service do it with --server." in str(told.value)


def test_what_no_service_does_instead_is_not_offered() -> None:
    with pytest.raises(MissingExtra) as told, packages_of("service", "The database", by_service=False):
        importlib.import_module("no_such_package")
    assert "pip install 'consilience[service]'." in str(told.value)
