"""The command `consilience`."""


def main() -> None:
    """Run the command line and exit with its status."""
    from consilience.cli.app import run  # noqa: PLC0415 -- importing a package must not load its modules

    run()
