"""`python -m consilience.cli`: the same as `consilience`."""

from consilience.cli import main

main()
