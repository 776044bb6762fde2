"""Shared set-up of the tests."""

import os

# libgomp's threads spin while they wait; with another process on a core that makes torch tens of
# times slower. It must be set before torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
