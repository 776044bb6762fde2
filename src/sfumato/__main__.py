"""`python -m sfumato`: the program, where its script is not on the PATH."""

from sfumato.cli import signals

signals.listen()  # the other imports take a while

from sfumato.cli.main import main  # noqa: E402

main()
