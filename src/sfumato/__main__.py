"""The program: `sfumato`, or `python -m sfumato`. It can be stopped from its first import on."""

from sfumato.cli import early


def main() -> None:
    """Entry point of the program."""
    early.hear()
    from sfumato.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
