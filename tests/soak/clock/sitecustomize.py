"""A wall clock that jumps: Python imports this first where this folder is in PYTHONPATH.

The file that SOAK_CLOCK names holds by how many seconds the clock is wrong. The monotonic clock goes on as it is.
"""

import os
import time
from pathlib import Path

_right = time.time


def _jumping() -> float:
    try:
        return _right() + float(Path(os.environ["SOAK_CLOCK"]).read_text())
    except (OSError, ValueError):
        return _right()


if "SOAK_CLOCK" in os.environ:
    time.time = _jumping
