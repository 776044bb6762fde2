"""`python -m sfumato.train RECIPE.toml`: the trainer without the command line's packages."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# libgomp's threads spin while they wait; see the note in sfumato.cli.main
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def main() -> int:
    """Parse the few options and train; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sfumato.train", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, help="packed set, or folder with captions")
    parser.add_argument("-o", "--output", type=Path, help="run folder; runs/NAME if not given")
    parser.add_argument("--steps", type=int, help="replaces the recipe's optim.steps")
    parser.add_argument("--until", type=int, help="stop after this step, to go on later")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    from sfumato.core.errors import SfumatoError
    from sfumato.core.interrupts import Stopped
    from sfumato.train.program import train

    try:
        train(**vars(options))
    except SfumatoError as error:
        print(f"sfumato: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        return stop.code if isinstance(stop, Stopped) else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
