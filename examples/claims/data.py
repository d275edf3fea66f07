"""Folder of the examples' data."""

from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
