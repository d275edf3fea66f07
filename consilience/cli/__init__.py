"""The command line: one module per command."""


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from consilience.cli.app import run  # noqa: PLC0415 -- importing a package must not load its modules

        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # the status of shells for Ctrl-C, also while modules are loading
