"""The operator's page names every setting, with the default that holds."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from service.settings import ServiceSettings
from workers.settings import WorkerSettings

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
ROWS = dict(re.findall(r"^\| `CONSILIENCE_(\w+)` \| (.+?) \|", PAGE, re.MULTILINE))
FIELDS = {
    name: field.default
    for settings in (ServiceSettings, WorkerSettings)
    for name, field in settings.model_fields.items()
    if field.default is not PydanticUndefined
}


def test_every_setting_has_its_line_and_no_line_is_left_over() -> None:
    assert {name.lower() for name in ROWS} == FIELDS.keys()


@pytest.mark.parametrize(("name", "default"), FIELDS.items())
def test_the_default_is_the_one_that_holds(name: str, default: Any) -> None:
    shown = ROWS[name.upper()]
    if default is None or default == ():
        assert shown in {"SQLite in the data folder", "half of the memory", "none"}
    elif hasattr(default, "get_secret_value"):
        assert shown == f"`{default.get_secret_value()}`"
    elif isinstance(default, bool):
        assert shown == f"`{str(default).lower()}`"
    elif isinstance(default, int | float):
        assert float(shown.strip("`")) == default
    else:
        assert shown == f"`{', '.join(default) if isinstance(default, tuple) else default}`"


def test_shared_settings_have_the_same_default_in_service_and_workers() -> None:
    for name in ServiceSettings.model_fields.keys() & WorkerSettings.model_fields.keys():
        assert ServiceSettings.model_fields[name].default == WorkerSettings.model_fields[name].default, name
