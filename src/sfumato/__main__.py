"""The program: `sfumato`, or `python -m sfumato`. It can be stopped from its first import on."""

from __future__ import annotations

from sfumato.cli import signals


def main() -> None:
    """Entry point of the program."""
    signals.listen()
    from sfumato.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
