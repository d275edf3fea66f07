"""Every package that a user can ask for is pinned, so that an install today is an install next year."""

import itertools
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line]
PINS: dict[str, Version] = {
    canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in LINES)
}


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_every_requirement_of_an_extra_is_pinned_within_its_range(extra: str) -> None:
    for line in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            assert requirement.extras <= EXTRAS.keys()
        else:
            assert PINS[canonicalize_name(requirement.name)] in requirement.specifier, line


def test_what_the_requirements_pull_in_is_pinned_too() -> None:
    wanted = [Requirement(line) for line in itertools.chain(PROJECT["dependencies"], *EXTRAS.values())]
    seen: set[str] = set()
    unpinned = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name == PROJECT["name"] or f"{requirement.name}[{sorted(requirement.extras)}]" in seen:
            continue
        seen.add(f"{requirement.name}[{sorted(requirement.extras)}]")
        unpinned |= {name} - PINS.keys()
        wanted += needs(requirement)
    assert unpinned == set()


def needs(requirement: Requirement) -> list[Requirement]:
    """What an installed distribution requires here; of one that is not installed nothing is known."""
    try:
        lines = requires(requirement.name) or []
    except PackageNotFoundError:
        return []
    found = [Requirement(line) for line in lines]
    extras = {"", *requirement.extras}
    return [one for one in found if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in extras)]


def test_the_pins_are_sorted_and_there_is_one_for_each_package() -> None:
    assert sorted(LINES, key=lambda line: line.lower().split("==")) == LINES
    assert len(PINS) == len(LINES)


def test_torch_is_pinned_exactly_where_it_is_asked_for() -> None:
    # A range would take the newest from PyPI, with gigabytes of CUDA packages.
    asked = [line for line in itertools.chain(*EXTRAS.values()) if line.startswith("torch")]
    assert asked == [f"torch=={PINS['torch']}"]


def test_the_build_backend_is_the_pinned_one() -> None:
    (backend,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert backend == f"hatchling=={PINS['hatchling']}"
