"""What the small programs (`python -m pipeline.mock.stamps` and others) share: numbers in a range, errors in a line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.errors import PipelineError


def positive(text: str) -> int:
    """A whole number above 0, for `type=` of an argument."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def within(low: float, high: float) -> Callable[[str], float]:
    """A number from `low` to `high`, for `type=` of an argument."""

    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # NaN too
            raise argparse.ArgumentTypeError(f"{text} is not from {low:g} to {high:g}")
        return value

    return number


@contextmanager
def errors_in_a_line(parser: argparse.ArgumentParser) -> Iterator[None]:
    """End the program with exit code 2 and one line, where something foreseen goes wrong within the block."""
    try:
        yield
    except (PipelineError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
