"""Fill numba's cache: `python -m consilience.numerics.compile_kernels`, so that no user waits for the compiler.

A kernel with a signature is compiled, or found in the cache, as its module is imported.
"""

from importlib import import_module
from pathlib import Path

PACKAGE = Path(__file__).parent


def find_kernel_modules() -> list[str]:
    """Names of the modules of `consilience.numerics` that define a compiled kernel."""
    marked = (path for path in sorted(PACKAGE.rglob("*.py")) if "@nb.njit(" in path.read_text(encoding="utf-8"))
    return [".".join(("consilience.numerics", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in marked]


if __name__ == "__main__":
    for module in find_kernel_modules():
        import_module(module)
