"""Measures how far embedding spaces agree: a library, a command and a REST service.

This package imports nothing on its own, so that ``import consilience`` costs nothing.
The public call is ``from consilience.scoring import score``.
"""

__version__ = "0.1.0"
