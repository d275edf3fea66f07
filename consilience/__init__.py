"""Measure how far embedding spaces agree: a library, a command and a REST service.

>>> from consilience import score

Importing the package loads nothing else: each public name loads its module on first use, so that the command and the client
start without numpy.
"""

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "ExtractionDocument",
    "Job",
    "Map",
    "MapDocument",
    "ReferenceDocument",
    "ScoreDocument",
    "StudyDocument",
    "TranslationDocument",
    "UpgradeReport",
    "fit_map",
    "score",
    "study",
    "upgrade_report",
]

#: True for type checkers and editors, which know the name; importing `typing` would take as long as all the rest.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from consilience.client.aio import AsyncClient
    from consilience.client.sync import Client
    from consilience.contract.extraction import ExtractionDocument
    from consilience.contract.jobs import Job
    from consilience.contract.maps import MapDocument, TranslationDocument
    from consilience.contract.scores import ReferenceDocument, ScoreDocument
    from consilience.contract.study_results import StudyDocument
    from consilience.contract.upgrades import UpgradeReport
    from consilience.maps.api import Map, fit_map
    from consilience.scoring import score
    from consilience.studies.local import study
    from consilience.upgrades.api import upgrade_report

#: Module of each public name, loaded on first use; the imports above tell type checkers the same.
_MODULES = {
    "AsyncClient": "consilience.client.aio",
    "Client": "consilience.client.sync",
    "ExtractionDocument": "consilience.contract.extraction",
    "Job": "consilience.contract.jobs",
    "Map": "consilience.maps.api",
    "MapDocument": "consilience.contract.maps",
    "ReferenceDocument": "consilience.contract.scores",
    "ScoreDocument": "consilience.contract.scores",
    "StudyDocument": "consilience.contract.study_results",
    "TranslationDocument": "consilience.contract.maps",
    "UpgradeReport": "consilience.contract.upgrades",
    "fit_map": "consilience.maps.api",
    "score": "consilience.scoring",
    "study": "consilience.studies.local",
    "upgrade_report": "consilience.upgrades.api",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - costs time that a bare import does not need

    globals()[name] = value = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the names that are loaded or can be loaded."""
    return sorted({*globals(), *__all__})
