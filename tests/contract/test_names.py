"""Names of the models of the contract, which identify their schemas."""

import importlib
import pkgutil
from collections import Counter

from pydantic import BaseModel

from consilience import contract


def test_every_schema_has_a_unique_name() -> None:
    models: set[type[BaseModel]] = set()
    for module in pkgutil.iter_modules(contract.__path__, "consilience.contract."):
        found = vars(importlib.import_module(module.name)).values()
        models |= {each for each in found if isinstance(each, type) and issubclass(each, BaseModel)}
    names = Counter(model.__name__ for model in models if model.__module__.startswith("consilience."))
    assert {name for name, count in names.items() if count > 1} == set()
