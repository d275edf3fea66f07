"""Where the examples' data is."""

from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
