"""Measure how far embedding spaces agree: a library, a command and a REST service.

>>> from consilience import score

Importing the package loads nothing else: each public name loads its module when it is first used, so that neither the command
nor the client waits for numpy.
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
    from consilience.maps.api import Map
    from consilience.maps.api import fit as fit_map
    from consilience.scoring import score
    from consilience.studies.local import study
    from consilience.upgrades.api import report as upgrade_report

#: Module and name of each public name that is loaded when it is first used: the same as above, for Python itself.
_HOMES = {
    "AsyncClient": ("consilience.client.aio", "AsyncClient"),
    "Client": ("consilience.client.sync", "Client"),
    "ExtractionDocument": ("consilience.contract.extraction", "ExtractionDocument"),
    "Job": ("consilience.contract.jobs", "Job"),
    "Map": ("consilience.maps.api", "Map"),
    "MapDocument": ("consilience.contract.maps", "MapDocument"),
    "ReferenceDocument": ("consilience.contract.scores", "ReferenceDocument"),
    "ScoreDocument": ("consilience.contract.scores", "ScoreDocument"),
    "StudyDocument": ("consilience.contract.study_results", "StudyDocument"),
    "TranslationDocument": ("consilience.contract.maps", "TranslationDocument"),
    "UpgradeReport": ("consilience.contract.upgrades", "UpgradeReport"),
    "fit_map": ("consilience.maps.api", "fit"),
    "score": ("consilience.scoring", "score"),
    "study": ("consilience.studies.local", "study"),
    "upgrade_report": ("consilience.upgrades.api", "report"),
}


def __getattr__(name: str) -> object:
    """Load a public name (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - costs time that a bare import does not need

    module, attribute = _HOMES[name]
    globals()[name] = value = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    """List what is loaded and what can be."""
    return sorted({*globals(), *__all__})
