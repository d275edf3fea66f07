"""The tests that SECURITY.md names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
THREATS = re.findall(r"^\| (?!-|threat \|)[^|]+\|[^|]+\|([^|]+)\|$", PAGE, re.MULTILINE)


def test_every_threat_has_tests_and_they_exist() -> None:
    assert len(THREATS) > 20
    for cell in THREATS:
        names = re.findall(r"`(tests/[\w/]+\.py)`", cell)
        assert names, cell
        assert [name for name in names if not (ROOT / name).exists()] == []


def test_every_command_that_it_names_is_one_of_make() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)`", PAGE)) <= targets
