"""The API process is small because it never imports what only workers need."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "faiss",
    "numba",
    "scipy",
    "sklearn",
    "umap",
    "PIL",
    "pyarrow",
    "dask",
    "transformers",
    "workers",
    "consilience.scoring",
    "consilience.numerics",
)
BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in {HEAVY!r}:
            raise ImportError(name + " must not be imported by the service")

sys.meta_path.insert(0, Blocked())
"""


@pytest.mark.parametrize("module", ["service.app", "service.openapi.__main__", "service.__main__"])
def test_the_service_imports_without_the_numeric_libraries(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"{BLOCKED}\nimport {module}"], check=True)


def test_the_block_itself_works() -> None:
    blocked = subprocess.run(
        [sys.executable, "-c", f"{BLOCKED}\nimport consilience.scoring"], capture_output=True, text=True, check=False
    )

    assert "must not be imported by the service" in blocked.stderr
